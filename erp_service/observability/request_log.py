"""One line in the log for each answered request. Most lines are these, so as JSON they are written without structlog's
processors: all their values are known, and none is a secret."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from erp_service.access.key_format import without_keys

_log = structlog.stdlib.get_logger("erp")
_erp = logging.getLogger("erp")
_encode = msgspec.json.Encoder().encode


class _Line(msgspec.Struct, omit_defaults=True):
    method: str
    path: str
    status: int
    milliseconds: float | None
    user_id: int | None
    request_id: str
    event: str
    level: str
    logger: str
    timestamp: str
    trace_id: str | None = None
    api_key_id: int | None = None


class _Form(msgspec.Struct):
    as_json: bool = False


_form = _Form()


def configure(*, as_json: bool) -> None:
    _form.as_json = as_json


def write(scope: Any, status: int, duration: float | None, request_id: str) -> None:
    """`duration` in seconds, until the answer began; None if that is not known."""
    if not _erp.isEnabledFor(logging.INFO):
        return
    # somebody may write a key into an address by mistake
    method, path = scope["method"], without_keys(scope["path"])[:200]
    milliseconds = None if duration is None else round(duration * 1000, 1)
    who = scope.get("user")
    user_id, key = getattr(who, "user_id", None), getattr(who, "key", None)
    api_key_id = None if key is None else key.id
    if not _form.as_json:
        _log.info(
            "request",
            method=method,
            path=path,
            status=status,
            milliseconds=milliseconds,
            user_id=user_id,
            **({} if api_key_id is None else {"api_key_id": api_key_id}),
            request_id=request_id,
        )
        return
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    trace_id = scope["state"].get("trace_id")
    line = _Line(
        method,
        path,
        status,
        milliseconds,
        user_id,
        request_id,
        "request",
        "info",
        "erp",
        now,
        trace_id=trace_id,
        api_key_id=api_key_id,
    )
    text = _encode(line).decode()
    # standard error may have another encoding than UTF-8
    sys.stderr.write((text if text.isascii() else json.dumps(msgspec.to_builtins(line))) + "\n")
