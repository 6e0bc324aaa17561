"""Notifications between instances; silence is trusted only while the connection is proved alive."""

import os
import signal
from collections.abc import AsyncIterator
from time import monotonic

import asyncpg
import pytest

from erp_service.db.notifications import PROOF_HOLDS, NotificationListener
from erp_service.settings import Settings
from tests.support.waiting import eventually

# of this test's database, since others listen on the same server
LISTENER = "application_name = 'erp notices' and datname = current_database()"


class Ear:
    def __init__(self) -> None:
        self.heard: list[str | None] = []

    def __call__(self, payload: str | None) -> None:
        self.heard.append(payload)


@pytest.fixture
async def heard(settings: Settings) -> AsyncIterator[tuple[NotificationListener, Ear]]:
    notices, ear = NotificationListener(settings.database_url), Ear()
    notices.subscribe("test_channel", ear)
    async with notices.listening():
        await eventually(lambda: _certain(notices))
        yield notices, ear


async def _uncertain(notices: NotificationListener) -> bool:
    return not notices.is_current


async def _certain(notices: NotificationListener) -> bool:
    return notices.is_current


async def test_a_notice_is_heard(heard: tuple[NotificationListener, Ear], owner: asyncpg.Connection) -> None:
    _, ear = heard
    await owner.execute("select pg_notify('test_channel', '7')")

    async def seven() -> bool:
        return "7" in ear.heard

    await eventually(seven)


async def test_after_a_gap_everything_is_forgotten_and_later_notices_are_heard(
    heard: tuple[NotificationListener, Ear], owner: asyncpg.Connection
) -> None:
    _, ear = heard
    gaps = ear.heard.count(None)
    await owner.execute("select pg_terminate_backend(pid) from pg_stat_activity where " + LISTENER)

    async def forgot() -> bool:
        return ear.heard.count(None) > gaps

    await eventually(forgot)
    await owner.execute("select pg_notify('test_channel', 'after the gap')")

    async def again() -> bool:
        return "after the gap" in ear.heard

    await eventually(again)


async def test_silence_of_a_listener_that_hangs_is_not_trusted(
    heard: tuple[NotificationListener, Ear], owner: asyncpg.Connection
) -> None:
    """The peer exists but answers no more: no error and no end of file, only no proof."""
    notices, _ = heard
    pid = await owner.fetchval("select pid from pg_stat_activity where " + LISTENER)
    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(lambda: _uncertain(notices))
    finally:
        os.kill(pid, signal.SIGCONT)
    await eventually(lambda: _certain(notices))


async def test_an_instance_starts_without_a_database() -> None:
    notices = NotificationListener("postgresql://u@/db?host=/nonexistent-directory")
    notices.subscribe("test_channel", Ear())
    async with notices.listening():
        assert not notices.is_current


def test_silence_is_trusted_for_less_than_the_promised_second_since_the_last_proof() -> None:
    """Whatever the connection does: an instance that trusted it for longer would grant what was taken away."""
    assert PROOF_HOLDS <= 0.5
    notifications = NotificationListener("postgresql://u@/db?host=/nonexistent-directory")
    assert not notifications.is_current
    notifications._proved_at = monotonic()
    assert notifications.is_current
    notifications._proved_at = monotonic() - PROOF_HOLDS
    assert not notifications.is_current
