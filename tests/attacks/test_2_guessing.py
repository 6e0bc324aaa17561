"""Guessing of passwords: counted whatever happens, and never at the expense of the account's owner.

These requests name their addresses as the balancer does: from 127.0.0.1, which the instances trust."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import count, cycle

import httpx

from tests.attacks.target import EMAIL, PASSWORD, Harmless, Target
from tests.support.databases import connected
from tests.support.waiting import eventually

LOGIN = "/api/v1/auth/login"
KNOWN, ELSEWHERE = "203.0.113.9", "198.51.100.7"


def _client(target: Target, n: int) -> httpx.AsyncClient:
    return target.client(url=target.instances[n % 2].url, address="127.0.0.1")


async def _log_in(client: httpx.AsyncClient, password: str, address: str, email: str = EMAIL) -> int:
    form = {"username": email, "password": password}
    return (await client.post(LOGIN, data=form, headers={"X-Forwarded-For": address})).status_code


async def test_strangers_cannot_lock_an_account_for_its_owner(target: Target) -> None:
    async with _client(target, 0) as one, _client(target, 1) as two:
        assert await _log_in(one, PASSWORD, KNOWN) == 200
        clients = cycle([one, two])
        # ten /64s of one customer's /56 (RFC 6177), as many guesses from each as one network may have
        networks = [f"2001:db8:0:{n:x}::1" for n in range(10)]
        guesses = [_log_in(next(clients), f"guess {n}", network) for n in range(10) for network in networks]
        statuses = await asyncio.gather(*guesses)
        assert set(statuses) <= {401, 429, 503}
        assert 429 in statuses
        assert await _log_in(two, PASSWORD, KNOWN) == 200
        assert await _log_in(one, PASSWORD, ELSEWHERE) == 200
        # and networks of many customers: the owner's own is still known
        networks = [f"192.0.2.{n}" for n in range(1, 60)]
        guesses = [_log_in(next(clients), f"guess {n}", network) for n in range(3) for network in networks]
        statuses = await asyncio.gather(*guesses)
        assert set(statuses) <= {401, 429, 503}
        assert await _log_in(two, PASSWORD, KNOWN) == 200


async def test_other_spellings_of_an_email_are_no_further_guesses(target: Target) -> None:
    spellings = [EMAIL, EMAIL.upper(), EMAIL.title(), f" {EMAIL}", "\uff4f" + EMAIL[1:]]
    async with _client(target, 0) as client:
        statuses = [
            await _log_in(client, f"guess {n}", "192.0.2.200", email) for n in range(12) for email in spellings[:4]
        ]
        # a full-width letter is another e-mail, and nobody's
        assert await _log_in(client, PASSWORD, "192.0.2.201", spellings[4]) in (401, 422)
    assert statuses.count(401) <= 10
    assert 429 in statuses


async def test_guesses_are_refused_while_they_cannot_be_counted(target: Target) -> None:
    """Every connection of the pools waits for a lock; nobody may then guess for nothing, not even rightly."""
    async with connected(target.settings.migration_database_url or "") as owner, _client(target, 0) as client:
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute("lock table items in access exclusive mode")
        waiting = "select count(*) from pg_locks where relation = 'items'::regclass and not granted"
        path = f"/api/v1/inventory/items/{target.item}"
        headers = {"Authorization": f"Bearer {target.viewer}"}
        reads = [asyncio.create_task(client.get(path, headers=headers)) for _ in range(3 * target.settings.pool_size)]

        async def exhausted() -> bool:
            return bool(await owner.fetchval(waiting) >= target.settings.pool_size)

        await eventually(exhausted)
        passwords = [PASSWORD if n == 7 else f"guess {n}" for n in range(40)]
        statuses = await asyncio.gather(*(_log_in(client, password, "192.0.2.220") for password in passwords))
        await transaction.rollback()
        await asyncio.gather(*reads)
    assert statuses.count(401) <= 10
    assert 200 not in statuses or statuses.count(401) + statuses.count(200) <= 10
    assert 503 in statuses


async def test_flood_of_log_ins_leaves_the_instances_to_others(target: Target, harmless: Harmless) -> None:
    """From as many networks as there are guesses, three times as many as the balancer lets one address send. The queue
    before the hashing threads is short, and whoever does not fit in is refused at once."""
    numbers, statuses = count(), set[int]()

    async def guess(client: httpx.AsyncClient) -> None:
        while True:
            n = next(numbers)
            network = f"100.{64 + n // 62_500}.{n // 250 % 250}.{n % 250 + 1}"
            await asyncio.sleep(0.25)
            statuses.add(await _log_in(client, f"guess {n}", network, f"nobody{n}@example.com"))

    @contextlib.asynccontextmanager
    async def flood() -> AsyncIterator[None]:
        async with _client(target, 0) as one, _client(target, 1) as two:
            guesses = [asyncio.create_task(guess(client)) for client in (one, two) for _ in range(40)]
            yield
            for task in guesses:
                task.cancel()
            await asyncio.gather(*guesses, return_exceptions=True)

    await harmless(flood)
    assert statuses <= {401, 429, 503}
    async with _client(target, 0) as client:
        await eventually(lambda: _signed_in(client))
    assert next(numbers) > 100


async def _signed_in(client: httpx.AsyncClient) -> bool:
    return await _log_in(client, PASSWORD, KNOWN) == 200
