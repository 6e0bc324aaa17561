"""One stack for all of these tests, which go on from each other in order, and the table that they end with."""

import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from _pytest.terminal import TerminalReporter

from tests.containers.books import exported
from tests.containers.stack import PROJECT, Stack, timed
from tests.support.waiting import eventually

PROPERTY = "seen"


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Up and ready, with an owner; what it took to get there is in `stack.up_seconds`."""
    stack = Stack(os.environ["ERP_TEST_IMAGE"], Path(tmp_path_factory.mktemp("stack")))
    await stack.down()
    try:
        async with timed() as took:
            await stack.up()
            await eventually(stack.answers, seconds=120)
        stack.up_seconds = took[0]
        await stack.make_owner()
        yield stack
    finally:
        sys.stderr.write(await stack.logs() if os.environ.get("ERP_TEST_LOGS") else "")
        await stack.down()


@pytest.fixture
async def token(stack: Stack) -> str:
    """Of each test its own: it is good for a quarter of an hour, and all of them together may take longer."""
    return await stack.sign_in()


@pytest.fixture
async def client(stack: Stack, token: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
async def file(stack: Stack) -> tuple[str, str]:
    """A large export, by its id and digest."""
    headers = {"Authorization": f"Bearer {await stack.sign_in()}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client:
        job = await exported(client, dataset="stock_movements")
    return job["id"], job["result"]["sha256"]


@pytest.fixture(scope="session")
async def next_release(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """An image whose migrations expand the schema."""
    directory = Path(tmp_path_factory.mktemp("next"))
    head = await stack.sql("select version_num from alembic_version")
    (directory / "9999_next.py").write_text(
        f'from alembic import op\n\nrevision = "9999"\ndown_revision = "{head}"\n\n\ndef upgrade() -> None:\n'
        '    op.execute("alter table items add column next_note text")\n'
    )
    move = (
        "import pathlib, shutil, erp_service;"
        "shutil.move('/tmp/9999_next.py', pathlib.Path(erp_service.__file__).parent / 'migrations/versions')"
    )
    (directory / "Containerfile").write_text(
        f'FROM {stack.image}\nUSER 0\nCOPY 9999_next.py /tmp/\nRUN python -c "{move}"\nUSER 10001:10001\n'
        "LABEL org.opencontainers.image.version=next\n"
    )
    image = f"localhost/{PROJECT}:next"
    await stack.run("podman", "build", "--quiet", "--tag", image, str(directory))
    yield image
    await stack.down()
    await stack.run("podman", "image", "rm", "--force", image)


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """For a test to say what it saw."""

    def say(what: str) -> None:
        request.node.user_properties.append((PROPERTY, what))

    return say


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    told: list[tuple[str, Any]] = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            if "tests/containers/" in report.nodeid and report.when == "call":
                name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
                said = [value for key, value in report.user_properties if key == PROPERTY]
                told.append((f"{name}: {outcome}, {report.duration:.0f} s", said))
    if told:
        terminalreporter.section("containers")
    for title, said in told:
        terminalreporter.write_line(title)
        for line in said:
            terminalreporter.write_line(f"    {line}")
