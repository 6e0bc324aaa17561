"""What clients can do to one instance without a balancer in front, on the level of HTTP."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from erp_service.processes.http_protocol import Limits
from tests.processes.sockets import Answer, Client, Served, serving
from tests.support.waiting import eventually

GET = b"GET /count HTTP/1.1\r\nHost: test\r\n\r\n"
SHORT = Limits(head_seconds=0.05, body_seconds=0.05, silence_seconds=0.05, lingering_seconds=0.05)


class App:
    """Answers with the number of bytes and headers that it got; at /wait only when `go` is set; at /large and
    /flood with more than a reader that takes nothing has room for."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.paths: list[str] = []
        self.disconnected = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        if scope["path"] == "/wait":
            await self.go.wait()
        if scope["path"] == "/early":
            await self._answer(send, 413, b"early")
            return
        if scope["path"] == "/large":
            await self._answer(send, 200, b" " * (16 << 20))
            return
        if scope["path"] == "/flood":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b" " * 65536, "more_body": True})
                await asyncio.sleep(0)
                if self.disconnected:
                    return
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected += 1
                return
            size += len(message["body"])
            more = message["more_body"]
        await self._answer(send, 200, b"%d %d" % (size, len(scope["headers"])))

    async def _answer(self, send: Any, status: int, body: bytes) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def app() -> App:
    return App()


Serve = Callable[[Limits], Awaitable[Served]]


@pytest.fixture
async def serve(app: App) -> AsyncIterator[Serve]:
    async with contextlib.AsyncExitStack() as stack:

        async def serve(limits: Limits) -> Served:
            return await stack.enter_async_context(serving(app, limits))

        yield serve


def assert_problem(answer: Answer, status: int, slug: str) -> None:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    problem = json.loads(answer.body)
    assert (problem["status"], problem["type"]) == (status, f"/problems/{slug}")
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def head(size: int) -> bytes:
    """A complete head of so many bytes."""
    start = b"GET /count HTTP/1.1\r\nHost: test\r\nCookie: "
    return start + b"c" * (size - len(start) - 4) + b"\r\n\r\n"


async def test_a_head_of_32_kib_is_read_and_one_byte_more_is_431(serve: Serve) -> None:
    served = await serve(Limits())
    async with served.client() as client:
        await client.send(head(32 * 1024))
        assert (await client.answer()).status == 200
    async with served.client() as client:
        await client.send(head(32 * 1024 + 1))
        assert_problem(await client.answer(), 431, "head-too-large")
        assert await client.is_closed()


@pytest.mark.parametrize("line", [b"Cookie: " + b"c" * 1000 + b"\r\n", b"a:\r\n", b"\r\n", b"c" * 1000])
async def test_thirty_megabytes_of_header_lines_cost_one_answer(app: App, serve: Serve, line: bytes) -> None:
    served = await serve(Limits())
    async with served.client() as client:
        start = b"" if line == b"\r\n" else b"GET / HTTP/1.1\r\nHost: test\r\n" + (b"a: " if b":" not in line else b"")
        await client.send(start)
        piece = line * (100_000 // len(line))
        sending = asyncio.create_task(_flood(client, piece, 300))
        assert_problem(await client.answer(), 431, "head-too-large")
        (connection,) = served.state.connections
        kept = sum(len(name) + len(value) for name, value in getattr(connection, "headers", None) or [])
        assert kept <= 32 * 1024
        sending.cancel()
    assert app.paths == []


async def _flood(client: Client, piece: bytes, times: int) -> None:
    for _ in range(times):
        await client.send(piece)


async def test_two_hundred_header_lines_are_read_and_more_are_431(serve: Serve) -> None:
    served = await serve(Limits())
    async with served.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n" + b"a: b\r\n" * 199 + b"\r\n")
        assert (await client.answer()).body == b"0 200"
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n" + b"a: b\r\n" * 200 + b"\r\n")
        assert_problem(await client.answer(), 431, "head-too-large")


async def test_a_head_that_trickles_in_is_408(serve: Serve) -> None:
    served = await serve(SHORT)
    async with served.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost:")
        assert_problem(await client.answer(), 408, "request-timeout")
        assert await client.is_closed()


async def test_a_second_head_that_trickles_in_is_408_too(serve: Serve) -> None:
    served = await serve(SHORT)
    async with served.client() as client:
        await client.send(GET)
        assert (await client.answer()).status == 200
        await client.send(b"GET / HTTP/1.1\r\nHost:")
        assert_problem(await client.answer(), 408, "request-timeout")


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /ä HTTP/1.1\r\nHost: test\r\n\r\n".encode(),
        b"GET / HTTP/1.1\r\nHost: one\r\nHost: two\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: one\r\nHost: one\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_request_is_a_problem_document(serve: Serve, request_: bytes) -> None:
    served = await serve(Limits())
    async with served.client() as client:
        await client.send(request_)
        assert_problem(await client.answer(), 400, "bad-request")
        client.writer.write_eof()
        assert await client.is_closed()


async def test_a_probe_of_http_1_0_needs_no_host(serve: Serve) -> None:
    served = await serve(Limits())
    async with served.client() as client:
        await client.send(b"GET /health/ready HTTP/1.0\r\n\r\n")
        assert (await client.answer()).status == 200


async def test_a_body_is_not_taken_for_the_next_request(app: App, serve: Serve) -> None:
    """The parser skips the body of a request that asks for another protocol; a proxy in front does not."""
    hidden = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n"
    served = await serve(Limits())
    for of_body in (b"Content-Length: %d\r\n\r\n" % len(hidden), b""):
        async with served.client() as client:
            upgrade = b"POST /count HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
            await client.send(upgrade + (of_body or b"\r\n"))
            answer = await client.answer()
            await client.send(hidden)
            assert answer.status == (400 if of_body else 200)
            client.writer.write_eof()
            assert await client.is_closed()
    assert "/metrics" not in app.paths


async def test_a_trailer_is_no_header_of_its_request(serve: Serve) -> None:
    served = await serve(Limits())
    async with served.client() as client:
        start = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
        await client.send(start + b"0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
        assert (await client.answer()).body == b"1 2"


@pytest.mark.parametrize("piece", [b"1\r\nx\r\n", b"0\r\n" + b"a: b\r\n" * 20_000, b"1;" + b"x" * 100_000])
async def test_framing_without_a_body_is_refused(app: App, serve: Serve, piece: bytes) -> None:
    served = await serve(Limits(framing_bytes=1000))
    async with served.client() as client:
        await client.send(b"POST /wait HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        sending = asyncio.create_task(_flood(client, piece * (1 + 100_000 // len(piece)), 20))
        assert_problem(await client.answer(), 400, "bad-request")
        sending.cancel()
    app.go.set()

    async def told() -> int:
        return app.disconnected

    assert await eventually(told) == 1


async def test_idle_connections_cost_no_answers(serve: Serve) -> None:
    """Requests are counted, not connections; beyond the limit of these, the one that is idle longest is closed."""
    served = await serve(Limits(requests=2, connections=20, head_seconds=600))
    async with contextlib.AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(served.client()) for _ in range(20)]
        await idle[1].send(b"GET / HTTP/1.1\r\n")

        async def full() -> bool:
            return len(served.state.connections) == 20

        for victim in idle[:3]:
            await eventually(full)
            client = await stack.enter_async_context(served.client())
            await client.send(GET)
            assert (await client.answer()).status == 200
            assert await victim.is_closed()
        await idle[10].send(GET)
        assert (await idle[10].answer()).status == 200


async def test_requests_in_progress_have_a_limit_that_probes_pass(app: App, serve: Serve) -> None:
    served = await serve(Limits(requests=2))
    async with served.client() as one, served.client() as two, served.client() as three:
        for client in (one, two):
            await client.send(GET.replace(b"/count", b"/wait"))

        async def both_wait() -> bool:
            return app.paths == ["/wait", "/wait"]

        await eventually(both_wait)
        await three.send(GET.replace(b"/count", b"/health/live"))
        assert (await three.answer()).status == 200
        await three.send(GET)
        answer = await three.answer()
        assert_problem(answer, 503, "unavailable")
        # it was in the header only, and the document says that both have it
        assert json.loads(answer.body)["retry_after"] == int(answer.headers["retry-after"]) > 0
        app.go.set()
        assert [(await client.answer()).status for client in (one, two)] == [200, 200]


async def test_pipelined_requests_are_answered_in_order_up_to_a_limit(app: App, serve: Serve) -> None:
    served = await serve(Limits(pipelined=4))
    async with served.client() as client:
        await client.send(GET * 5)
        assert [(await client.answer()).status for _ in range(5)] == [200] * 5
        await client.send(GET * 10_000)
        assert (await client.answer()).status == 200
        assert await client.is_closed()
    assert len(app.paths) == 6


async def test_nonsense_after_a_request_does_not_spoil_its_answer(app: App, serve: Serve) -> None:
    served = await serve(SHORT)
    async with served.client() as client:
        await client.send(GET.replace(b"/count", b"/wait") + b"nonsense\r\n\r\n")

        async def waits() -> list[str]:
            return app.paths

        await eventually(waits)
        app.go.set()
        assert (await client.answer()).body == b"0 1"
        assert await client.is_closed()


async def test_a_body_that_goes_on_after_the_answer_is_cut_off(serve: Serve) -> None:
    served = await serve(SHORT)
    async with served.client() as client:
        await client.send(b"POST /early HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        sending = asyncio.create_task(_endless(client))
        assert (await client.answer()).body == b"early"
        assert await client.is_closed()
        await sending


async def _endless(client: Client) -> None:
    while not client.writer.is_closing() and not client.reader.at_eof():
        await client.send(b"4\r\nmore\r\n")
        await asyncio.sleep(0)


@pytest.mark.parametrize("path", [b"/flood", b"/large"])
async def test_a_reader_that_takes_nothing_is_let_go(app: App, serve: Serve, path: bytes) -> None:
    served = await serve(SHORT)
    async with served.client() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(GET.replace(b"/count", path))

        async def begun() -> list[str]:
            return app.paths

        await eventually(begun)

        async def gone() -> bool:
            return not served.state.connections

        await eventually(gone)
        app.disconnected = 1
