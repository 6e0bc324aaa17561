"""What instances hear of changes, and how a test keeps it from them."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from litestar import Litestar

from tests.support.apps import services_of


async def hears(app: Litestar) -> bool:
    return bool(services_of(app).notifications.is_current)


@asynccontextmanager
async def deaf(owner: asyncpg.Connection) -> AsyncIterator[None]:
    """Stops the server's side of all listening connections, as a lost network does: nothing is closed."""
    pids = [
        row["pid"]
        for row in await owner.fetch(
            "select pid from pg_stat_activity"
            " where application_name = 'erp notices' and datname = current_database() and state = 'idle'"
        )
    ]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class SilentNotices:
    """A listener that is always current; the test calls what it subscribed."""

    is_current = True

    def subscribe(self, _channel: str, hear: object) -> None:
        self.hear = hear
