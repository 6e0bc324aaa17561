"""Whether a primary can be reached, and who must not be taken for one that cannot."""

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from erp_service.db.connections import connect
from erp_service.db.replicas.leader_watch import LeaderAway, LeaderWatch
from erp_service.standalone.postgres import Cluster
from tests.support.waiting import eventually


class Server:
    """What a watch connects to; it takes `seconds` for that, and refuses with `refusal`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.seconds = 0.0
        self.refusal: Callable[[], Exception] | None = None
        self.connections = 0

    async def connect(self) -> asyncpg.Connection:
        self.connections += 1
        if self.refusal is not None:
            raise self.refusal()
        await asyncio.sleep(self.seconds)
        return await connect(self._url, name="erp leader", leader=False)


@pytest.fixture
def server(cluster: Cluster) -> Server:
    return Server(cluster.owner_url("postgres"))


@pytest.fixture
async def watch(server: Server) -> AsyncIterator[LeaderWatch]:
    watch = LeaderWatch(server.connect)
    yield watch
    await watch.close()


async def test_a_connection_that_takes_long_is_not_begun_again_and_again(watch: LeaderWatch, server: Server) -> None:
    """As while one of several hosts is silent."""
    server.seconds = 1.5
    with pytest.raises(LeaderAway):
        await watch.now()
    with pytest.raises(LeaderAway):
        watch.require()

    async def reached() -> bool:
        return not watch.is_away

    await eventually(reached)
    assert server.connections == 1
    watch.require()


async def test_a_server_without_room_is_there(watch: LeaderWatch, server: Server) -> None:
    server.refusal = lambda: asyncpg.TooManyConnectionsError("sorry, too many clients already")
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await watch.now()
    watch.require()


async def test_whoever_waits_for_a_server_that_went_away_waits_no_longer(watch: LeaderWatch, server: Server) -> None:
    known = await watch.now()
    assert watch.last_before(known.mark.position) == known.mark
    assert watch.last_before(known.mark.position - 1) is None
    waiting = asyncio.ensure_future(watch.unless_away(asyncio.sleep(600)))
    server.refusal = ConnectionRefusedError
    assert watch._connection is not None
    watch._connection.terminate()
    with pytest.raises(LeaderAway):
        await waiting
    with pytest.raises(LeaderAway):
        await watch.now()
