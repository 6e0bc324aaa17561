"""No output of any kind says what the database holds: not the answers, not the logs, not the commands."""

import asyncio
import contextlib
import io
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import httpx
import pytest
from litestar import Request
from litestar.params import FromPath

from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.app import create_app
from erp_service.commands.database import exit_on_error
from erp_service.db.engine import Database
from erp_service.observability import telemetry
from erp_service.observability.exception_text import described, traceback_text
from erp_service.queue.background import run_background
from erp_service.registry.background import BackgroundStep
from erp_service.registry.services import ServiceSet
from erp_service.services import build_services
from erp_service.settings import Settings
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC, post
from erp_service.worker_services import WorkerServices
from tests.acceptance.instances import environment
from tests.observability.database_faults import EMAIL, FAULTS, SECRETS, STATEMENTS, prepare
from tests.support.apps import running, services_of
from tests.support.clients import client_of
from tests.support.waiting import eventually


@post("/test/faults/{name:str}", role=PUBLIC, scope=Keys.NONE)
async def fail(name: FromPath[str], request: Request[Any, Any, Any]) -> ApiResponse[None]:
    services = services_of(request.app)
    await FAULTS[name](services.database, services.settings)
    return ApiResponse(None)


@pytest.fixture(params=["json", "text"])
def logs(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What a process of the service logs, at the level that says the most."""
    root, output = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    with contextlib.redirect_stderr(output):
        telemetry.configure(Settings(database_url="", log_format=request.param, log_level="debug"))
    yield output
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
async def secrets(owner: asyncpg.Connection) -> None:
    await prepare(owner)


def require_silence(output: str) -> None:
    found = {secret: output[max(at - 200, 0) :][:400] for secret in SECRETS if (at := output.find(secret)) >= 0}
    assert found == {}


@pytest.fixture
async def anyone(settings: Settings, secrets: None) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(build_services(settings))
    app.register(fail)
    async with running(app), client_of(app) as client:
        yield client


async def test_no_answer_and_no_log_of_a_request_quotes_the_database(
    anyone: httpx.AsyncClient, logs: io.StringIO
) -> None:
    answers = {name: await anyone.post(f"/test/faults/{name}") for name in FAULTS}
    output = logs.getvalue()
    assert {name: answer.status_code for name, answer in answers.items() if answer.is_success} == {
        "foreign key of a referenced row": 201
    }
    require_silence("".join(answer.text for answer in answers.values()))
    require_silence(output)
    # what helps to find the fault is there
    for word in ("UniqueViolationError", "users_role_known", "42501", "database_faults.py"):
        assert word in output


async def test_no_log_of_a_worker_quotes_the_database(
    worker_services: WorkerServices, secrets: None, logs: io.StringIO
) -> None:
    failed: set[str] = set()

    def step(name: str) -> BackgroundStep:
        async def run(services: ServiceSet) -> None:
            failed.add(name)
            await FAULTS[name](worker_services.database, worker_services.settings)

        return BackgroundStep(name, run)

    task = asyncio.create_task(run_background(worker_services, [step(name) for name in FAULTS], pause=60))

    async def done() -> bool:
        return failed == set(FAULTS)

    assert await eventually(done)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    output = logs.getvalue()
    require_silence(output)
    assert output.count("failed") >= len(STATEMENTS) // 2


async def test_no_command_quotes_the_database(
    database: Database, settings: Settings, secrets: None, logs: io.StringIO
) -> None:
    with contextlib.redirect_stderr(logs), contextlib.redirect_stdout(logs):
        for fault in FAULTS.values():
            try:
                with contextlib.suppress(SystemExit), exit_on_error():
                    await fault(database, settings)
            except Exception as exc:  # noqa: BLE001 all that leaves a command
                # what the interpreter prints of it is this, see cli.main
                sys.stderr.write(traceback_text(exc) + described(exc))
    output = logs.getvalue()
    require_silence(output)
    assert "erp: The e-mail is in use" in output


async def test_library_that_formats_an_exception_itself_is_cut_off(logs: io.StringIO) -> None:
    logger = logging.getLogger("some.library")
    error = asyncpg.UniqueViolationError("duplicate key value violates unique constraint")
    error.detail = f"Key (lower(email))=({EMAIL}) already exists."
    logger.error("a task failed: %s", error)
    formatted = f"a task failed: {error}, going on with {error!r}"
    logger.error(formatted)
    logger.error("a task failed", exc_info=error)
    telemetry.log.error("a task failed", error=error, text=str(error))
    telemetry.log.error("a task failed: %r, %s", error, [str(error)])
    output = logs.getvalue()
    require_silence(output)
    assert output.count("a task failed") == 5
    assert output.count("unique constraint") >= 5


async def test_create_user_with_an_e_mail_that_is_taken_says_so_and_nothing_else(
    settings: Settings, secrets: None
) -> None:
    command = [sys.executable, "-m", "erp_service", "create-user", EMAIL.upper(), "--role", Role.VIEWER]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment(settings), input="quite a long password of 2026\n",
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("erp: ")
    assert "e-mail" in lines[0]
    for word in ("insert", "SQL", "argon2", "DETAIL", "Key ("):
        assert word not in done.stderr
