"""What one VIEWER may use up: files, downloads, addresses, estimates. Each refusal says when to come again."""

from typing import Any

import httpx

from tests.attacks.target import BYTES_PER_USER, JOBS, Harmless, Target, ended, finished, repeated
from tests.support.databases import connected

MANY = 400
"""Requests: more than any of the quotas that count them by minute."""


def _assert_says_when(answer: httpx.Response) -> None:
    assert answer.status_code == 429, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["detail"]


def _assert_says_how_many(answer: httpx.Response) -> None:
    _assert_says_when(answer)
    assert answer.headers["RateLimit"].endswith(f";r=0;t={answer.headers['Retry-After']}")
    assert ";q=" in answer.headers["RateLimit-Policy"]


async def test_files_of_one_user_have_a_quota(target: Target, harmless: Harmless) -> None:
    """With `force_new`, which makes the same file again and again."""
    async with target.client(target.greedy) as client:

        async def one_more() -> None:
            answer = await client.post(JOBS, json={"dataset": "items", "force_new": True})
            assert answer.status_code in (202, 429)

        await harmless(lambda: repeated(one_more, pause=0.2))
        refusal: dict[str, Any] = {}
        for _ in range(8):
            answer = await client.post(JOBS, json={"dataset": "items", "force_new": True})
            await ended(client)
            if answer.status_code == 202:
                # it was not known that this one would pass the quota
                last = (await client.get(answer.headers["Location"])).json()
                refusal = last["error"]
            else:
                _assert_says_when(answer)
                refusal = answer.json()
        assert refusal["type"] == "/problems/export-quota"
    async with connected(target.settings.migration_database_url or "") as owner:
        kept = "select sum(result_bytes) from export_jobs where status = 'succeeded' group by user_id"
        assert all(row[0] <= BYTES_PER_USER for row in await owner.fetch(kept))


async def test_one_byte_ranges_are_limited_and_leave_few_entries_in_the_audit_log(
    target: Target, harmless: Harmless
) -> None:
    async with target.client(target.viewer) as client:
        job = await finished(client, dataset="locations")
        path = f"{JOBS}/{job['id']}/download"
        statuses: list[int] = []

        async def one_byte_each() -> None:
            answer = await client.get(path, headers={"Range": f"bytes={len(statuses) % 20}-{len(statuses) % 20}"})
            statuses.append(answer.status_code)

        await harmless(lambda: repeated(one_byte_each, pause=0.02))
        while 429 not in statuses and len(statuses) < 3 * MANY:
            await one_byte_each()
        _assert_says_how_many(await client.get(path))
    async with connected(target.settings.migration_database_url or "") as owner:
        entries = "select count(*) from audit_log where action = 'export.downloaded' and entity_id = $1"
        # an entry a minute
        assert await owner.fetchval(entries, job["id"]) <= 3


async def test_addresses_and_estimates_are_limited(target: Target) -> None:
    async with target.client(target.viewer) as client:
        job = await finished(client, dataset="locations")
        requests = {f"{JOBS}/{job['id']}/download-url": None, "/api/v1/exports/estimates": {"dataset": "items"}}
        for path, body in requests.items():
            answers = [await client.post(path, json=body) if body else await client.post(path) for _ in range(70)]
            assert answers[0].status_code == 200
            _assert_says_how_many(answers[-1])
