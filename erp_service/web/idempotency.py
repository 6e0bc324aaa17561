"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07), in the transaction of the effect.

The claim and the record live in the one generator dependency of a writing handler, which therefore knows nothing of
them. Only successes are recorded: a refused request had no effect, so a retry is safe and may succeed."""

import hmac
import re
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from litestar import Request
from litestar.response import Response
from litestar.types import ExceptionHandlersMap
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from erp_service import errors
from erp_service.db import locks
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault
from erp_service.settings import Settings
from erp_service.web.dependencies import services_of
from erp_service.web.idempotency_models import KEPT_HOURS, IdempotencyRecord
from erp_service.web.responses import Answer, rendered_answer

_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_HEADERS = frozenset({"content-type", "location", "etag", "retry-after"})


class Claim(msgspec.Struct, frozen=True):
    user_id: int
    key: str
    digest: bytes


class Replay(Exception):
    """The recorded answer, to be sent again. Raised before the handler runs, so that nothing happens twice."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status, self.headers, self.body = status, headers, body


async def write_session(request: Request[Any, Any, Any]) -> AsyncGenerator[WriteSession, None]:
    """The dependency `write`: one transaction, committed before the answer starts."""
    # before the transaction, since it comes at the speed of the client
    body = await request.body() if request.route_handler.opt["idempotent"] else b""
    async with services_of(request.app).find(Database).write() as db:
        claimed = await _claim(db, request, body)
        yield db
        if claimed is not None:
            await _record(db, claimed, rendered_answer(request))


async def _claim(db: WriteSession, request: Request[Any, Any, Any], body: bytes) -> Claim | None:
    key = request.headers.get("idempotency-key")
    if key is None or not request.route_handler.opt["idempotent"]:
        return None
    if not _KEY.fullmatch(key):
        fault = Fault("must be 1 to 255 visible ASCII characters", parameter="Idempotency-Key")
        raise errors.Invalid(None, fault)
    user_id = request.user.user_id
    # two statements on purpose: the second needs a snapshot taken after the lock is ours
    if not await locks.try_to_take(db, locks.idempotency_key(key, user_id)):
        raise errors.StillRunning(headers={"Retry-After": "1"})
    digests = _digests(request, body)
    record = IdempotencyRecord
    age = func.make_interval(0, 0, 0, 0, KEPT_HOURS)
    first = (
        await db.execute(
            select(record.digest, record.status, record.headers, record.body).where(
                record.user_id == user_id, record.key == key, record.created_at > func.now() - age
            )
        )
    ).one_or_none()
    if first is None:
        return Claim(user_id, key, digests[0])
    if first.digest not in digests:
        raise errors.KeyReused
    raise Replay(first.status, first.headers, first.body)


def _digests(request: Request[Any, Any, Any], body: bytes) -> list[bytes]:
    """The digest of the request, keyed with each secret, newest first. Keyed, since a body may hold a password, which
    nobody who reads the table must be able to guess; with every secret, since a retry may come after a rotation."""
    scope = request.scope
    parts = (scope["method"].encode(), scope["path"].encode(), scope["query_string"], body)
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return [
        hmac.digest(b"idempotency:" + secret.encode(), message, "sha256")
        for secret in services_of(request.app).find(Settings).jwt_secrets
    ]


async def _record(db: WriteSession, claim: Claim, answer: Answer) -> None:
    headers = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
    values = {
        "digest": claim.digest,
        "status": answer.status_code,
        "headers": {name: value for name, value in headers.items() if name in _HEADERS},
        "body": answer.body,
        "created_at": func.now(),
    }
    statement = insert(IdempotencyRecord).values(user_id=claim.user_id, key=claim.key, **values)
    # an expired record may still be there: housekeeping removes it later
    await db.execute(statement.on_conflict_do_update(index_elements=["user_id", "key"], set_=values))


def on_replay(_request: Request[Any, Any, Any], exc: Replay) -> Response[bytes]:
    headers = {"Idempotency-Replayed": "true", "Cache-Control": "no-store"} | {
        n: v for n, v in exc.headers.items() if n != "content-type"
    }
    media_type = exc.headers.get("content-type", "application/json")
    return Response(exc.body, status_code=exc.status, headers=headers, media_type=media_type)


HANDLERS: ExceptionHandlersMap = {Replay: on_replay}
