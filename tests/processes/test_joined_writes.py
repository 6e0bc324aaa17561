"""Head and body of an answer go out together, and nothing overtakes them."""

import asyncio
from typing import Any

from erp_service.processes.joined_writes import JoinedWrites


class Recorder(asyncio.Transport):
    """Remembers what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.calls.append(bytes(data))

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def get_write_buffer_size(self) -> int:
        return 7


async def test_writes_of_one_turn_are_sent_as_one_at_its_end() -> None:
    recorder = Recorder()
    transport = JoinedWrites(recorder, asyncio.get_running_loop())
    transport.write(b"head")
    transport.write(b"body")
    assert recorder.calls == []
    await asyncio.sleep(0)
    assert recorder.calls == [b"headbody"]
    transport.write(b"next")
    await asyncio.sleep(0)
    assert recorder.calls == [b"headbody", b"next"]


async def test_close_comes_after_what_was_written() -> None:
    recorder = Recorder()
    transport = JoinedWrites(recorder, asyncio.get_running_loop())
    transport.write(b"last")
    transport.close()
    await asyncio.sleep(0)
    assert recorder.calls == [b"last", "close"]


async def test_size_of_the_buffer_counts_what_was_written() -> None:
    recorder = Recorder()
    transport = JoinedWrites(recorder, asyncio.get_running_loop())
    transport.write(b"x")
    assert transport.get_write_buffer_size() == 7
    assert recorder.calls == [b"x"]


async def test_abort_sends_nothing_more() -> None:
    recorder = Recorder()
    transport = JoinedWrites(recorder, asyncio.get_running_loop())
    transport.write(b"x")
    transport.abort()
    await asyncio.sleep(0)
    assert recorder.calls == ["abort"]


async def test_long_answer_does_not_gather_in_memory() -> None:
    recorder = Recorder()
    transport = JoinedWrites(recorder, asyncio.get_running_loop())
    for _ in range(4):
        transport.write(b"x" * 40_000)
    assert sum(map(len, recorder.calls)) >= 80_000, "before the turn ends"
    await asyncio.sleep(0)
    assert sum(map(len, recorder.calls)) == 160_000
