"""The client library for scripts, in threads as scripts use it, against real instances and a faulty network."""

import asyncio
import doctest
import hashlib
import http.server
import io
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import httpx
import pytest

from erp_service import client as module
from erp_service.auth.tokens import Claims, Tokens
from erp_service.client import Client, Job, NotIntact, NotSucceeded, Refused, SignedOut, Unreachable
from tests.acceptance.instances import free_port
from tests.acceptance.service import EMAIL, PASSWORD, ROWS, Service
from tests.acceptance.wire import wire


def part_of(path: Path, job: Job) -> Path:
    return path.with_name(f"{path.name}.{job['id']}.part")


async def test_examples_in_the_documentation_run(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    owner = await service.owner()
    await owner.execute("update items set status = 'INACTIVE' where sku > 'SKU-10'")
    names = {"url": service.urls[0], "token": service.token, "email": EMAIL, "password": PASSWORD}
    try:
        found = doctest.DocTestFinder().find(module, globs={**vars(module), **names, "sys": sys, "log": io.StringIO()})
        (shown,) = [test for test in found if test.examples]
        said = io.StringIO()
        # bytes go to the buffer of the real standard output; the runner's replacement has none
        shown.globs["sys"] = type("Fake", (), {"stdout": type("Out", (), {"buffer": io.BytesIO()})})
        result = await asyncio.to_thread(doctest.DocTestRunner().run, shown, out=said.write)
    finally:
        await owner.execute("update items set status = 'ACTIVE'")
        await owner.close()
    assert result.failed == 0, said.getvalue()
    assert result.attempted >= 3
    assert (tmp_path / "items.csv").read_text().count("\n") == 3


async def test_download_that_breaks_many_times_goes_on_where_it_broke(
    service: Service, job: Job, tmp_path: Path
) -> None:
    chance = random.Random(4)
    async with wire(*service.urls) as between:
        size = job["result"]["bytes"]
        cuts = [chance.randint(1, size // 10) for _ in range(25)]

        def download(to: Path | io.BytesIO) -> None:
            between.cuts.extend(cuts)
            with Client(between.url, service.token) as erp:
                erp.download(job, to)

        path, stream = tmp_path / "items.csv", io.BytesIO()
        await asyncio.to_thread(download, path)
        await asyncio.to_thread(download, stream)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == job["result"]["sha256"]
    assert stream.getvalue() == path.read_bytes()
    assert not part_of(path, job).exists()
    assert between.asked.count(b"\r\nRange: bytes=") >= 10


async def test_service_without_an_answer_is_reported_at_once_and_not_after_all_retries(
    service: Service, job: Job
) -> None:
    said: list[str] = []
    async with wire(service.urls[0]) as between:

        def read_twice() -> None:
            with Client(between.url, service.token, notice=said.append) as erp:
                erp.job(job["id"])
                between.answers_lost = 2
                erp.job(job["id"])

        await asyncio.to_thread(read_twice)
    lost, back = said
    assert "cannot be reached" in lost
    assert "Trying again, for 120 s at most." in lost
    assert back == "The service answers again."


async def test_download_goes_on_with_what_an_earlier_process_left(service: Service, job: Job, tmp_path: Path) -> None:
    path, whole = tmp_path / "items.csv", io.BytesIO()
    async with wire(service.urls[0]) as between:

        def download() -> None:
            with Client(between.url, service.token) as erp:
                erp.download(job, whole)
                between.asked = b""
                part_of(path, job).write_bytes(whole.getvalue()[:1_000_000])
                erp.download(job, path)

        await asyncio.to_thread(download)
    assert b"Range: bytes=1000000-\r\n" in between.asked
    assert path.read_bytes() == whole.getvalue()


async def test_leftovers_that_are_not_of_this_file_are_noticed_and_removed(
    service: Service, job: Job, tmp_path: Path
) -> None:
    path = tmp_path / "items.csv"

    def download(left: bytes) -> None:
        part_of(path, job).write_bytes(left)
        with Client(service.urls[0], service.token) as erp:
            erp.download(job, path)

    with pytest.raises(NotIntact):
        await asyncio.to_thread(download, b"x" * 1000)
    assert list(tmp_path.iterdir()) == []
    # a partial file that is longer than the file is not a part of it
    await asyncio.to_thread(download, b"x" * (job["result"]["bytes"] + 1))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == job["result"]["sha256"]


async def test_damage_on_the_way_is_never_taken_for_the_file(service: Service, job: Job, tmp_path: Path) -> None:
    async with wire(service.urls[0]) as between:
        between.damage = (b",PCS,", b",PCX,")

        def download(to: Path | io.BytesIO) -> None:
            with Client(between.url, service.token) as erp:
                erp.download(job, to)

        for to in (tmp_path / "items.csv", io.BytesIO()):
            with pytest.raises(NotIntact, match=job["result"]["sha256"]):
                await asyncio.to_thread(download, to)
    assert list(tmp_path.iterdir()) == []


async def test_lost_answer_to_a_submission_is_asked_for_again_and_submits_once(service: Service) -> None:
    async with wire(*service.urls) as between:
        between.answers_lost = 2

        def submit() -> Job:
            with Client(between.url, service.token) as erp:
                return erp.submit("items", force_new=True, columns=["id"])

        job = await asyncio.to_thread(submit)
    assert between.asked.count(b"POST ") == 3
    with closing(httpx.Client(base_url=service.urls[0], headers={"Authorization": f"Bearer {service.token}"})) as http_:
        jobs = http_.get("/api/v1/exports/jobs?limit=3").json()["items"]
    assert [found["id"] for found in jobs].count(job["id"]) == 1
    assert jobs[1]["created_at"] < jobs[0]["created_at"]
    assert jobs[0]["id"] == job["id"]


async def test_access_token_that_expires_is_renewed_in_the_middle(service: Service, tmp_path: Path) -> None:
    hours_ago = time.time() - 7200
    expired = Tokens(service.settings).issue(Claims(service.user_id, 1, UUID(int=0)), now=hours_ago)

    def export() -> Job:
        form = {"username": EMAIL, "password": PASSWORD}
        refresh = httpx.post(f"{service.urls[1]}/api/v1/auth/login", data=form).json()["refresh_token"]
        with Client(service.urls[0], expired, refresh_token=refresh) as erp:
            job = erp.export("items", tmp_path / "some.csv", columns=["sku"])
            erp._service._token = expired
            erp.download(job, tmp_path / "again.csv")
            return job

    job = await asyncio.to_thread(export)
    assert job["result"]["rows"] == ROWS
    assert (tmp_path / "some.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()

    def refused() -> None:
        with Client(service.urls[0], expired) as erp:
            erp.submit("items")

    with pytest.raises(SignedOut, match="401"):
        await asyncio.to_thread(refused)


async def test_refusal_has_the_fields_of_the_problem(service: Service) -> None:
    def submit() -> None:
        with Client(service.urls[0], service.token) as erp:
            erp.submit("items", columns=["colour"], filename="a/b", csv={"delimiter": "x"})

    with pytest.raises(Refused) as refused:
        await asyncio.to_thread(submit)
    problem = refused.value
    assert (problem.status, problem.type, problem.retry_after) == (422, "/problems/invalid", None)
    assert problem.errors[0]["pointer"] == "/csv/delimiter"
    assert problem.problem["request_id"] in str(problem)
    assert "/csv/delimiter" in str(problem)


async def test_export_that_is_canceled_has_no_file_and_says_so(service: Service, tmp_path: Path) -> None:
    owner = await service.owner()

    def export() -> None:
        with Client(service.urls[0], service.token) as erp:
            seen = []
            job = erp.submit("items", force_new=True)

            def show(job: Job) -> None:
                seen.append(job["status"])
                if seen.count("running") == 1:
                    erp.cancel(job["id"])

            try:
                erp.follow(job, show=show)
            finally:
                assert seen[-1] == "canceled"

    try:
        async with owner.transaction():
            await owner.execute("lock table items in access exclusive mode")
            with pytest.raises(NotSucceeded, match="canceled") as ended:
                await asyncio.to_thread(export)
    finally:
        await owner.close()
    assert ended.value.job["status"] == "canceled"
    assert list(tmp_path.iterdir()) == []


async def test_nobody_there_is_told_soon_and_an_outage_is_waited_for(service: Service, job: Job) -> None:
    def nobody() -> None:
        with Client(f"http://127.0.0.1:{free_port()}", service.token, patience=0.5) as erp:
            erp.job(job["id"])

    with pytest.raises(Unreachable, match="cannot be reached"):
        await asyncio.to_thread(nobody)
    async with wire(service.urls[0]) as between:
        between.cuts.extend([0] * 2)

        def outage() -> Job:
            with Client(between.url, service.token) as erp:
                return erp.job(job["id"])

        assert (await asyncio.to_thread(outage))["id"] == job["id"]
        between.cuts.extend([0] * 100)

        def too_long() -> None:
            with Client(between.url, service.token, patience=0.5) as erp:
                erp.download(job, io.BytesIO())

        with pytest.raises(Unreachable):
            await asyncio.to_thread(too_long)


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """A service that redirects to its store, and a store without ranges; `seen` are the headers of both requests."""

    seen: ClassVar[list[dict[str, str]]] = []
    content = random.Random(1).randbytes(300_000)
    cut = True

    def do_GET(self) -> None:
        self.seen.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
        if self.path.endswith("/download"):
            self.send_response(307)
            self.send_header("Location", f"http://{self.headers['Host']}/store?permission=its-own")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: 100_000 if type(self).cut else None])
        type(self).cut, self.close_connection = False, True

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def elsewhere() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_store_that_serves_by_itself_gets_no_token_and_may_ignore_ranges(tmp_path: Path) -> None:
    content = _Elsewhere.content
    job = {"id": "x", "result": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    with elsewhere() as url, Client(url, "a-token") as erp:
        erp.download(job, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    to_service = [seen for seen in _Elsewhere.seen if seen["path"].endswith("/download")]
    to_store = [seen for seen in _Elsewhere.seen if seen["path"].startswith("/store")]
    assert [seen["authorization"] for seen in to_service] == ["Bearer a-token"] * 2
    assert not [seen for seen in to_store if "authorization" in seen]
    assert [seen.get("range") for seen in to_store] == [None, "bytes=100000-"]
    assert {seen["accept-encoding"] for seen in _Elsewhere.seen} == {"identity"}


def test_what_answers_and_is_not_the_service_is_told() -> None:
    with elsewhere() as url, Client(url, "a-token") as erp, pytest.raises(Unreachable, match="does not speak JSON"):
        erp.job("x")
