"""The line of each request, which is written without structlog."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.observability import request_log, telemetry
from erp_service.settings import Settings

SCOPE = {"method": "GET", "path": "/api/v1/inventory/items/7", "state": {}, "user": Principal(3, Role.STAFF)}


@pytest.fixture
def configured() -> Iterator[None]:
    telemetry.configure(Settings(database_url="", log_format="json", log_level="info"))
    yield
    telemetry.configure(Settings(database_url="", log_level="error", log_format="text"))


def line(capsys: pytest.CaptureFixture[str], scope: Any, duration: float | None = 0.0123) -> dict[str, Any]:
    request_log.write(scope, 200, duration, "r-1")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    found: dict[str, Any] = json.loads(text)
    return found


def test_line_has_the_members_of_every_other_line(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    found = line(capsys, SCOPE)
    assert datetime.fromisoformat(found.pop("timestamp")).tzinfo is UTC
    assert found == {
        "method": "GET",
        "path": "/api/v1/inventory/items/7",
        "status": 200,
        "milliseconds": 12.3,
        "user_id": 3,
        "request_id": "r-1",
        "event": "request",
        "level": "info",
        "logger": "erp",
    }


def test_line_of_a_trace_names_it_and_a_stranger_has_no_user(
    configured: None, capsys: pytest.CaptureFixture[str]
) -> None:
    scope = {"method": "POST", "path": "/x" * 200, "state": {"trace_id": "abc"}}
    found = line(capsys, scope, None)
    assert (found["trace_id"], found["user_id"], found["milliseconds"]) == ("abc", None, None)
    assert len(found["path"]) == 200


def test_line_is_json_in_any_encoding(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    request_log.write({**SCOPE, "path": "/\u00fc\u2028\n"}, 404, None, "r-1")
    text = capsys.readouterr().err
    assert text.isascii()
    assert json.loads(text)["path"] == "/\u00fc\u2028\n"


def test_line_that_nobody_wants_is_not_written(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("erp").setLevel(logging.WARNING)
    try:
        request_log.write(SCOPE, 200, None, "r-1")
    finally:
        logging.getLogger("erp").setLevel(logging.NOTSET)
    assert capsys.readouterr().err == ""
