"""Open sign-ins: who sees them, who ends them, and that nothing of an ended one works anywhere."""

from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.access.roles import Role
from erp_service.auth.login.families import LONGEST_ORIGIN
from tests.auth.devices import log_in, with_device
from tests.auth.people import Join, Person, actions, bearer, login, me, refresh, signed_in, slug
from tests.support.apps import Instances
from tests.support.waiting import eventually

URL = "/api/v1/auth/sessions"


@pytest.fixture
async def grace(join: Join) -> Person:
    return await join(Role.STAFF)


async def listed(client: httpx.AsyncClient, pair: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(URL, params=query, headers=bearer(pair))
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def delete(client: httpx.AsyncClient, pair: dict[str, Any], path: str = "", **query: Any) -> httpx.Response:
    return await client.delete(f"{URL}{path}", params=query, headers=bearer(pair))


async def is_refused(client: httpx.AsyncClient, pair: dict[str, Any]) -> bool:
    return (await me(client, pair)).status_code == 401


async def test_a_sign_in_says_when_where_from_and_which_is_the_one_of_the_request(
    client: httpx.AsyncClient, grace: Person
) -> None:
    there = (await login(client, grace.email, **{"User-Agent": "Firefox/199.0"})).json()
    here = await signed_in(client, grace.email)
    first, second = await listed(client, here)
    assert (first["current"], second["current"]) == (True, False)
    assert second["user_agent"] == "Firefox/199.0"
    assert (second["user_id"], second["address"], second["second_factor"]) == (grace.id, "127.0.0.1", False)
    assert second["created_at"] == second["last_used_at"] < second["expires_at"]
    # requests do not count as uses, refreshes do
    await me(client, there)
    assert (await listed(client, here))[1]["last_used_at"] == second["last_used_at"]
    await refresh(client, there["refresh_token"])
    used = (await listed(client, here))[1]
    assert used["last_used_at"] > used["created_at"] == second["created_at"]


async def test_they_come_in_pages_newest_first(client: httpx.AsyncClient, grace: Person) -> None:
    pairs = [await signed_in(client, grace.email) for _ in range(3)]
    first = (await client.get(URL, params={"limit": 2}, headers=bearer(pairs[2]))).json()
    second = (await client.get(URL, params={"cursor": first["next_cursor"]}, headers=bearer(pairs[2]))).json()
    ids = [one["id"] for page in (first, second) for one in page["items"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 3
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"curl/8.9\r\nX-Forged: 1", "curl/8.9 X-Forged: 1"),
        (b"a" * 2**20, "a" * LONGEST_ORIGIN),
        (b"\x00\x1b[31m\xe2\x80\xae", "[31m\xe2\xae"),
        (b"\t \x7f", None),
        (b"", None),
    ],
    ids=["newline", "a megabyte", "controls", "nothing visible", "empty"],
)
async def test_a_hostile_user_agent_is_cut_and_cleaned(
    client: httpx.AsyncClient, grace: Person, sent: bytes, shown: str | None
) -> None:
    form = {"username": grace.email, "password": "a long walk by the sea"}
    answer = await client.post("/api/v1/auth/login", data=form, headers={b"User-Agent": sent})
    assert [one["user_agent"] for one in await listed(client, answer.json())] == [shown]


async def test_ended_here_it_is_over_on_the_other_instance_within_a_second(
    two: Instances, grace: Person, owner: asyncpg.Connection
) -> None:
    one, other = two.clients
    there, here = await signed_in(other, grace.email), await signed_in(one, grace.email)
    assert not await is_refused(other, there)
    [_, sign_in] = await listed(one, here)
    assert (await delete(one, here, f"/{sign_in['id']}")).status_code == 204
    assert await is_refused(one, there)
    await eventually(lambda: is_refused(other, there), seconds=2)
    assert (await refresh(other, there["refresh_token"])).status_code == 401
    assert not await is_refused(other, here)
    assert [entry["current"] for entry in await listed(other, here)] == [True]
    assert (await delete(one, here, f"/{sign_in['id']}")).status_code == 404
    assert (await actions(owner)).count("user.signed_out") == 1


async def test_one_can_end_ones_own_present_one(client: httpx.AsyncClient, grace: Person) -> None:
    here = await signed_in(client, grace.email)
    [sign_in] = await listed(client, here)
    assert (await delete(client, here, f"/{sign_in['id']}")).status_code == 204
    assert await is_refused(client, here)


async def test_all_others_are_ended_at_once(two: Instances, grace: Person) -> None:
    one, other = two.clients
    here, *others = [await signed_in(two.clients[n % 2], grace.email) for n in range(4)]
    assert (await delete(one, here)).status_code == 204
    for pair in others:
        assert await is_refused(one, pair)
        await eventually(lambda pair=pair: is_refused(other, pair), seconds=2)  # type: ignore[misc]
    assert not await is_refused(other, here)


async def test_who_sees_and_ends_the_sign_ins_of_others(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    people = {role: await join(role, f"{role.lower()}@example.com") for role in Role}
    pairs = {role: await signed_in(client, person.email) for role, person in people.items()}
    for role, pair in pairs.items():
        for other, person in people.items():
            seen = await client.get(URL, params={"user_id": person.id}, headers=bearer(pair))
            if role is other or role is Role.SUPER_ADMIN or (role is Role.ADMIN and not other.includes(Role.ADMIN)):
                assert [one["user_id"] for one in seen.json()["items"]] == [person.id]
                continue
            id_ = await owner.fetchval("select id from refresh_families where user_id = $1", person.id)
            answers = [seen, await delete(client, pair, user_id=person.id), await delete(client, pair, f"/{id_}")]
            # an id tells a person who may not see it nothing
            by_id = (403, "role-out-of-reach") if role is Role.ADMIN else (404, "not-found")
            refused = (403, "role-out-of-reach" if role is Role.ADMIN else "forbidden")
            assert [(answer.status_code, slug(answer)) for answer in answers] == [refused, refused, by_id]
    [sign_in] = await listed(client, pairs[Role.ADMIN], user_id=people[Role.STAFF].id)
    assert not sign_in["current"]
    assert (await delete(client, pairs[Role.ADMIN], f"/{sign_in['id']}")).status_code == 204
    assert await is_refused(client, pairs[Role.STAFF])
    assert (await delete(client, pairs[Role.SUPER_ADMIN], user_id=people[Role.ADMIN].id)).status_code == 204
    assert await is_refused(client, pairs[Role.ADMIN])
    entries = await owner.fetch("select * from audit_log where action = 'user.signed_out_by_another' order by id")
    assert [(entry["user_id"], entry["on_behalf_of"]) for entry in entries] == [
        (people[Role.ADMIN].id, people[Role.STAFF].id),
        (people[Role.SUPER_ADMIN].id, people[Role.ADMIN].id),
    ]
    assert (await client.get(URL, params={"user_id": 999}, headers=bearer(pairs[Role.SUPER_ADMIN]))).status_code == 404
    assert (await delete(client, pairs[Role.SUPER_ADMIN], user_id=999)).status_code == 404


async def test_it_says_whether_a_second_factor_was_shown(client: httpx.AsyncClient, grace: Person) -> None:
    device, pair = await with_device(client, grace)
    assert [one["second_factor"] for one in await listed(client, pair)] == [True], "it was shown to set it up"
    there = (await log_in(client, grace.email, device.code())).json()
    assert [one["second_factor"] for one in await listed(client, there)] == [True, True]


async def test_a_sign_in_of_the_version_before_is_listed(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    """While a release rolls out: it knows nothing of the new columns."""
    await owner.execute(
        "insert into refresh_families (id, user_id, expires_at)"
        " values ('01900000-0000-7000-8000-000000000000', $1, now() + interval '1 day')",
        grace.id,
    )
    old = (await listed(client, await signed_in(client, grace.email)))[-1]
    assert (old["address"], old["user_agent"], old["second_factor"]) == (None, None, False)
    assert old["last_used_at"] == old["created_at"]
