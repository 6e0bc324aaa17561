"""`erp export` with real processes, terminals, pipes, signals, and a faulty network."""

import asyncio
import contextlib
import csv
import hashlib
import io
import os
import pty
import re
import signal
import sys
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import httpx
import pytest
from click.testing import CliRunner

from erp_service.access.roles import Role
from erp_service.auth.passwords import hashed
from erp_service.auth.tokens import Claims, Tokens
from erp_service.cli import main
from erp_service.client import Job
from erp_service.db.engine import Database
from tests.acceptance.instances import free_port
from tests.acceptance.service import EMAIL, PASSWORD, ROWS, Service
from tests.acceptance.wire import Wire, wire
from tests.auth.devices import with_device
from tests.auth.people import Person
from tests.support.users import make_user
from tests.support.waiting import eventually

SECONDS = 60


class Ended(NamedTuple):
    status: int
    out: bytes
    said: str


def environment(token: str | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ERP_")}
    return {**kept, "COLUMNS": "120"} | ({"ERP_TOKEN": token} if token else {})


@contextlib.asynccontextmanager
async def started(
    *arguments: str, url: str, token: str | None, cwd: Path, stderr: int = asyncio.subprocess.PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "erp_service", "export", *arguments, "--url", url]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment(token), cwd=cwd, stdin=pipe, stdout=pipe, stderr=stderr
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process, given: str = "") -> Ended:
    async with asyncio.timeout(SECONDS):
        out, said = await process.communicate(given.encode())
    assert process.returncode is not None
    return Ended(process.returncode, out, (said or b"").decode())


async def line_of(process: asyncio.subprocess.Process, word: str) -> str:
    """The first line on standard error that holds the word: what the process has received and shown."""
    assert process.stderr is not None
    async with asyncio.timeout(SECONDS):
        while word not in (line := (await process.stderr.readline()).decode()):
            assert line, f"the process ended without a word of {word!r}"
    return line


async def export(*arguments: str, url: str, token: str | None, given: str = "") -> Ended:
    """Runs the command in this process, for tests that need no process of its own: each takes seconds to start."""
    variables = {"ERP_TOKEN": token, "ERP_URL": url, "COLUMNS": "120"}
    invoked = await asyncio.to_thread(CliRunner().invoke, main, ["export", *arguments], env=variables, input=given)
    assert invoked.exception is None or isinstance(invoked.exception, SystemExit), invoked.exception
    return Ended(invoked.exit_code, invoked.stdout_bytes, invoked.stderr)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, to which files without a path are written."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_into_a_pipe_comes_the_file_and_nothing_else(service: Service, job: Job, tmp_path: Path) -> None:
    async with started("items", "-o", "-", url=service.urls[0], token=service.token, cwd=tmp_path) as process:
        done = await ended(process)
    assert done.status == 0, done.said
    assert hashlib.sha256(done.out).hexdigest() == job["result"]["sha256"]
    assert f"{ROWS:,} rows, {len(done.out):,} bytes, sha256 {job['result']['sha256']}: standard output" in done.said
    assert list(tmp_path.iterdir()) == []


async def test_options_become_the_request(service: Service, tmp_path: Path) -> None:
    """Signs in by e-mail and password, so it covers users without a token as well."""
    options = ["--user", EMAIL, "--columns", "id,sku,name", "--sort=-id", "--delimiter", "semicolon", "--bom", "--crlf"]
    filters = ["--filter", "q=sku-1999", "--filter", "include_deleted=true"]
    named = ["--filename", "{dataset} of {date}", "--keep-hours", "2"]
    done = await export("items", *options, *filters, *named, url=service.urls[0], token=None, given=f"{PASSWORD}\n")
    assert done.status == 0, done.said
    (path,) = tmp_path.iterdir()
    assert re.fullmatch(r"items of \d{4}-\d\d-\d\d\.csv", path.name)
    content = path.read_bytes().decode("utf-8-sig")
    assert path.read_bytes().startswith("\ufeff".encode())
    rows = list(csv.reader(io.StringIO(content, newline=""), delimiter=";"))
    assert content.count("\r\n") == len(rows) == 12
    assert rows[:2] == [["id", "sku", "name"], ["19999", "SKU-19999", 'Item, "19999"']]
    # a file that exists is not overwritten under a name that the service chose
    again = await export("items", *options, *filters, *named, url=service.urls[0], token=None, given=f"{PASSWORD}\n")
    assert (again.status, path.read_bytes().decode("utf-8-sig")) == (1, content)
    assert "is here already" in again.said


async def test_preset_for_excel_and_relative_times_are_options_too(service: Service, tmp_path: Path) -> None:
    options = [
        "--for",
        "excel-de",
        "--timezone",
        "Europe/Berlin",
        "--filter",
        "from=today -7 days",
        "--filter",
        "to=now",
    ]
    done = await export("stock_movements", *options, "-o", "-", url=service.urls[0], token=service.token)
    assert done.status == 0, done.said
    assert done.out.startswith(b"\xef\xbb\xbfid;")
    assert b"\r\n" in done.out
    refused = await export("stock_movements", "--filter", "from=last week", url=service.urls[0], token=service.token)
    assert refused.status == 1
    assert "start of month -1 month" in refused.said


async def test_who_has_a_second_factor_is_asked_for_the_code(service: Service, tmp_path: Path) -> None:
    database = Database(service.settings, name="erp test")
    person = Person(await make_user(database, Role.VIEWER, "two@example.com", hashed(PASSWORD)), "two@example.com")
    await database.close()
    async with httpx.AsyncClient(base_url=service.urls[0]) as client:
        device, _ = await with_device(client, person)
    arguments = ("items", "--user", person.email, "--columns", "sku", "-o", "items.csv")
    silent = await export(*arguments, url=service.urls[1], token=None, given=f"{PASSWORD}\n")
    assert silent.status == 2
    assert "no code of the second factor on standard input" in silent.said
    done = await export(*arguments, url=service.urls[1], token=None, given=f"{PASSWORD}\n{device.code()}\n")
    assert done.status == 0, done.said
    assert (tmp_path / "items.csv").read_bytes().count(b"\n") == ROWS + 1


async def test_all_is_one_archive(service: Service, tmp_path: Path) -> None:
    done = await export("--all", "--format", "jsonl", "-o", "books.zip", url=service.urls[0], token=service.token)
    assert done.status == 0, done.said
    archive = zipfile.ZipFile(tmp_path / "books.zip")
    assert archive.testzip() is None
    assert archive.namelist()[-1] == "manifest.json"
    assert archive.read("items.jsonl").count(b"\n") == ROWS


async def test_validate_only_says_what_to_expect_and_submits_nothing(service: Service, tmp_path: Path) -> None:
    done = await export("items", "--validate-only", url=service.urls[0], token=service.token)
    assert done.status == 0, done.said
    assert re.search(rf"rows +{ROWS:,}\n", done.out.decode())
    assert re.search(r"size +about \d\.\d MB\n", done.out.decode())
    assert re.search(r"time +about \d+ s", done.out.decode())
    assert list(tmp_path.iterdir()) == []


async def test_interrupted_run_goes_on_and_is_fetched_by_resume(service: Service, tmp_path: Path) -> None:
    owner = await service.owner()
    try:
        async with (
            owner.transaction(),
            started(
                "items", "--force-new", "-o", "items.csv", url=service.urls[0], token=service.token, cwd=tmp_path
            ) as process,
        ):
            await owner.execute("lock table items in access exclusive mode")
            said = await line_of(process, "running")
            process.send_signal(signal.SIGINT)
            stopped = await ended(process)
    finally:
        await owner.close()
    assert stopped.status == 130
    assert "running" in said
    assert "The export goes on without you" in stopped.said
    assert "Traceback" not in stopped.said
    hint = re.search(r"Go on with: erp export --resume (\S+) -o items.csv --url (\S+)\n", stopped.said)
    assert hint is not None, stopped.said
    done = await export("--resume", hint[1], "-o", "items.csv", url=hint[2], token=service.token)
    assert done.status == 0, done.said
    assert hashlib.sha256((tmp_path / "items.csv").read_bytes()).hexdigest() in done.said


async def test_interrupted_submission_says_which_export_goes_on(service: Service, tmp_path: Path) -> None:
    """Ctrl-C comes after the service has the request, and before the client has the answer."""
    owner = await service.owner()
    before = await owner.fetchval("select count(*) from export_jobs")
    arguments = ["items", "--force-new", "-o", "items.csv"]
    try:
        async with wire(service.urls[0]) as between:
            between.open.clear()
            async with started(*arguments, url=between.url, token=service.token, cwd=tmp_path) as process:
                await _asked(between, 1)
                process.send_signal(signal.SIGINT)
                await _asked(between, 2)
                between.open.set()
                stopped = await ended(process)
        assert await owner.fetchval("select count(*) from export_jobs") == before + 1
    finally:
        await owner.close()
    assert stopped.status == 130
    hint = re.search(r"goes on without you.*\nGo on with: erp export --resume (\S+) -o items.csv", stopped.said)
    assert hint is not None, stopped.said
    done = await export("--resume", hint[1], "-o", "items.csv", url=service.urls[0], token=service.token)
    assert done.status == 0, done.said


async def test_interrupted_submission_that_nobody_answers_says_that_it_may_go_on(
    service: Service, tmp_path: Path
) -> None:
    async with wire(service.urls[0]) as between:
        between.open.clear()
        async with started("items", "-o", "items.csv", url=between.url, token=service.token, cwd=tmp_path) as process:
            for count in (1, 2):
                await _asked(between, count)
                process.send_signal(signal.SIGINT)
            stopped = await ended(process)
        between.open.set()
    assert stopped.status == 130
    assert "may have been submitted" in stopped.said
    assert "The same command continues with it" in stopped.said
    assert "Traceback" not in stopped.said


async def _asked(between: Wire, count: int) -> None:
    async def asked() -> bool:
        return between.asked.count(b"POST /api/v1/exports/jobs ") >= count

    await eventually(asked, seconds=SECONDS)


async def test_interrupted_download_goes_on_where_it_was(service: Service, job: Job, tmp_path: Path) -> None:
    resume = ["--resume", job["id"], "-o", "items.csv"]
    part = tmp_path / f"items.csv.{job['id']}.part"
    async with wire(service.urls[0]) as slow:
        slow.pause = 0.1
        async with started(*resume, url=slow.url, token=service.token, cwd=tmp_path) as process:

            async def some() -> bool:
                return part.exists() and part.stat().st_size > 0

            await eventually(some, seconds=SECONDS)
            process.send_signal(signal.SIGINT)
            stopped = await ended(process)
        assert stopped.status == 130
        # what has ended neither goes on nor can be canceled
        assert f"The service keeps the file until {job['expires_at']}." in stopped.said
        assert "goes on without you" not in stopped.said
        left = part.stat().st_size
        assert 0 < left < job["result"]["bytes"]
        slow.pause, slow.asked = 0, b""
        done = await export(*resume, url=slow.url, token=service.token)
    assert done.status == 0, done.said
    assert f"Range: bytes={left}-".encode() in slow.asked
    assert [path.name for path in tmp_path.iterdir()] == ["items.csv"]
    assert hashlib.sha256((tmp_path / "items.csv").read_bytes()).hexdigest() == job["result"]["sha256"]


async def test_damaged_download_has_a_status_of_its_own(service: Service, job: Job, tmp_path: Path) -> None:
    async with wire(service.urls[0]) as between:
        between.damage = (b",PCS,", b",PCX,")
        filed, piped = [
            await export("--resume", job["id"], "-o", output, url=between.url, token=service.token)
            for output in ("items.csv", "-")
        ]
    assert (filed.status, piped.status) == (3, 3)
    assert "not intact" in filed.said
    assert len(piped.out) == job["result"]["bytes"]
    assert list(tmp_path.iterdir()) == []


async def test_each_way_to_fail_has_its_status_and_no_stack_trace(service: Service, job: Job, tmp_path: Path) -> None:
    expired = Tokens(service.settings).issue(Claims(service.user_id, 1, UUID(int=0)), now=time.time() - 7200)
    ways: list[tuple[list[str], dict[str, str], int, str]] = [
        (["secrets"], {}, 1, "/dataset"),
        (["users"], {}, 1, "needs the role ADMIN"),
        (["items", "--columns", "sku,x"], {}, 1, "/columns/1"),
        (["items"], {"token": expired}, 1, "Sign in again"),
        (["--resume", job["id"], "-o", "/no/x"], {}, 1, "cannot write: /no/x"),
        (["--resume", str(UUID(int=0))], {}, 1, "no export"),
        (["--cancel", job["id"]], {}, 1, "it is succeeded"),
        ([], {}, 2, "Say one of"),
        (["items", "--all"], {}, 2, "Say one of"),
        (["items", "--filter", "sku"], {}, 2, "NAME=VALUE"),
        (["items", "--filter", "q=a", "--filter", "q=b"], {}, 2, "twice"),
        (["items"], {"url": f"http://127.0.0.1:{free_port()}"}, 4, "cannot be reached"),
        (["items"], {"url": "nonsense"}, 2, "'nonsense' is not the URL of a service"),
        (["items"], {"url": "ftp://localhost"}, 2, "is not the URL of a service"),
        (["items"], {"token": "pässword"}, 2, "ERP_TOKEN is not a token"),
    ]
    for arguments, other, status, said in ways:
        found = await export(*arguments, **{"url": service.urls[0], "token": service.token} | other)
        assert found.status == status, (arguments, found.said)
        assert said in found.said, arguments
        assert "Traceback" not in found.said
    assert list(tmp_path.iterdir()) == []


async def test_output_that_cannot_be_written_is_known_before_anything_is_submitted(
    service: Service, tmp_path: Path
) -> None:
    owner = await service.owner()
    before = await owner.fetchval("select count(*) from export_jobs")
    try:
        for output, said in (("/nope/x", "No such file"), (str(tmp_path), "Is a directory"), ("/dev/null/x", "Not a")):
            ended = await export("items", "--force-new", "-o", output, url=service.urls[0], token=service.token)
            assert ended.status == 1
            assert ended.said.startswith(f"erp: cannot write: {output}: {said}")
            assert len(ended.said.splitlines()) == 1
        assert await owner.fetchval("select count(*) from export_jobs") == before
    finally:
        await owner.close()


async def test_without_a_terminal_and_a_token_the_message_names_the_variable(tmp_path: Path) -> None:
    ended = await export("items", url="http://127.0.0.1:1", token=None)
    assert ended.status == 2
    assert "ERP_TOKEN is not set" in ended.said
    assert "Aborted" not in ended.said


async def test_reader_of_the_pipe_that_goes_away_is_no_fault_of_ours(
    service: Service, job: Job, tmp_path: Path
) -> None:
    async with started(
        "--resume", job["id"], "-o", "-", url=service.urls[0], token=service.token, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert (await process.stdout.readexactly(10)).startswith(b"id,sku,nam")
        process.stdout._transport.close()  # type: ignore[attr-defined]
        async with asyncio.timeout(SECONDS):
            assert await process.wait() == 141
            assert process.stderr is not None
            said = (await process.stderr.read()).decode()
    assert "the reader of the pipe went away" in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said


async def test_terminal_shows_a_bar_with_rows_and_bytes(service: Service, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        async with started(
            "items", "-o", "items.csv", url=service.urls[0], token=service.token, cwd=tmp_path, stderr=theirs
        ) as process:
            shown = asyncio.create_task(asyncio.to_thread(_all_of, ours))
            assert (await ended(process)).status == 0
            os.close(theirs)
            said = (await shown).decode()
    finally:
        os.close(ours)
    assert "━" in said
    assert "succeeded" in said
    assert f"{ROWS:,} of {ROWS:,} rows" in said
    assert re.search(r"downloading .*MB of .*MB", said)


def _all_of(descriptor: int) -> bytes:
    found = b""
    with contextlib.suppress(OSError):  # how Linux reports that the other end of a terminal was closed
        while piece := os.read(descriptor, 65536):
            found += piece
    return found


async def test_help_says_what_each_exit_status_means(tmp_path: Path) -> None:
    done = await export("--help", url="-", token=None)
    assert [int(status) for status in re.findall(r"^ +(\d+)  ", done.out.decode(), re.MULTILINE)] == [
        0, 1, 2, 3, 4, 130, 141,
    ]  # fmt: skip
