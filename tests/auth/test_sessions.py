"""Staying signed in and signing out: each refresh token works once, and a second use ends the whole sign-in."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.auth.models import HOUSEKEEPING
from erp_service.settings import Settings
from erp_service.worker_services import WorkerServices
from tests.auth.people import (
    OTHER_PASSWORD,
    PASSWORD,
    Join,
    Person,
    actions,
    bearer,
    login,
    me,
    refresh,
    signed_in,
    slug,
)
from tests.support.apps import Instances
from tests.support.clients import client_of


@pytest.fixture
async def grace(join: Join) -> Person:
    return await join(Role.STAFF)


async def test_each_refresh_token_works_once_and_the_next_one_then(client: httpx.AsyncClient, grace: Person) -> None:
    pair = await signed_in(client, grace.email)
    seen = {pair["refresh_token"]}
    for _ in range(4):
        answer = await refresh(client, pair["refresh_token"])
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        pair = answer.json()
        assert pair["refresh_token"] not in seen
        seen.add(pair["refresh_token"])
        assert (await me(client, pair)).status_code == 200


async def test_a_second_use_revokes_the_whole_family_and_only_it(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    stolen = await signed_in(client, grace.email)
    elsewhere = await signed_in(client, grace.email)
    kept = (await refresh(client, stolen["refresh_token"])).json()
    again = await refresh(client, stolen["refresh_token"])
    assert (again.status_code, slug(again)) == (401, "refresh-token-refused")
    assert (await refresh(client, kept["refresh_token"])).status_code == 401, "refused, and the revocation is kept"
    assert (await refresh(client, elsewhere["refresh_token"])).status_code == 200
    assert "user.refresh_token_reused" in await actions(owner)


async def test_of_many_who_refresh_with_one_token_at_once_one_wins_and_the_family_ends(
    two: Instances, grace: Person, owner: asyncpg.Connection
) -> None:
    for _ in range(3):
        pair = await signed_in(two.clients[0], grace.email)
        answers = await asyncio.gather(*(refresh(two.clients[n % 2], pair["refresh_token"]) for n in range(8)))
        won = [answer.json() for answer in answers if answer.status_code == 200]
        assert len(won) == 1
        assert {answer.status_code for answer in answers} == {200, 401}
        assert (await refresh(two.clients[1], won[0]["refresh_token"])).status_code == 401
    assert await owner.fetchval("select count(*) from refresh_families where revoked_at is null") == 0
    assert (await actions(owner)).count("user.refresh_token_reused") == 3


async def test_only_the_digest_of_a_refresh_token_is_kept(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    pair = await signed_in(client, grace.email)
    kept = str([dict(row) for row in await owner.fetch("select *, encode(digest, 'escape') from refresh_tokens")])
    assert pair["refresh_token"] not in kept
    assert await owner.fetchval("select length(digest) from refresh_tokens") == 32


async def test_a_token_of_a_deactivated_user_is_refused(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    pair = await signed_in(client, grace.email)
    await owner.execute("update users set is_active = false")
    assert (await refresh(client, pair["refresh_token"])).status_code == 401


async def test_what_is_no_refresh_token_is_refused(client: httpx.AsyncClient) -> None:
    for token in ("A" * 43, "x", "ünknöwn", "\U0001f511", "x" * 200):
        answer = await refresh(client, token)
        assert (answer.status_code, slug(answer)) == (401, "refresh-token-refused"), token
    for junk in ("", "x" * 201, "\0", 5, None, ["x"], {"x": 1}):
        answer = await client.post("/api/v1/auth/refresh", json={"refresh_token": junk})
        assert (answer.status_code, slug(answer)) == (422, "invalid"), junk


async def test_an_unused_token_expires_and_each_use_moves_the_end_up_to_a_limit(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection, settings: Settings
) -> None:
    pair = await signed_in(client, grace.email)
    lasts = "select extract(epoch from expires_at - now())::int from refresh_families"
    assert abs(await owner.fetchval(lasts) - settings.refresh_token_seconds) < 60
    await owner.execute("update refresh_tokens set expires_at = now() + interval '1 minute'")
    pair = (await refresh(client, pair["refresh_token"])).json()
    assert abs(await owner.fetchval(lasts) - settings.refresh_token_seconds) < 60

    await owner.execute("update refresh_families set created_at = now() - interval '89 days'")
    pair = (await refresh(client, pair["refresh_token"])).json()
    assert abs(await owner.fetchval(lasts) - 86_400) < 60, "the sign-in as a whole ends after 90 days"

    await owner.execute("update refresh_tokens set expires_at = now() where used_at is null")
    assert (await refresh(client, pair["refresh_token"])).status_code == 401
    # not a theft: nobody used it before
    assert "user.refresh_token_reused" not in await actions(owner)


async def pruned(services: WorkerServices) -> int:
    return sum([await services.housekeeping.prune(services.database, each) for each in HOUSEKEEPING])


async def test_what_has_expired_is_pruned_and_what_may_come_again_is_kept(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection, worker_services: WorkerServices
) -> None:
    gone, kept = await signed_in(client, grace.email), await signed_in(client, grace.email)
    newest = (await refresh(client, kept["refresh_token"])).json()
    assert await pruned(worker_services) == 0
    await owner.execute(
        "update refresh_tokens set expires_at = now() where family_id = (select min(id::text)::uuid from"
        " refresh_families); update refresh_families set expires_at = now()"
        " where id = (select min(id::text)::uuid from refresh_families)"
    )
    assert await pruned(worker_services) == 2
    assert await pruned(worker_services) == 0
    assert (await refresh(client, gone["refresh_token"])).status_code == 401
    assert (await refresh(client, kept["refresh_token"])).status_code == 401, "its reuse is still recognised"
    assert (await refresh(client, newest["refresh_token"])).status_code == 401


# Signing out.


async def test_signing_out_ends_this_sign_in_and_no_other(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    here, there = await signed_in(client, grace.email), await signed_in(client, grace.email)
    answer = await client.post("/api/v1/auth/logout", headers=bearer(here))
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.post("/api/v1/auth/logout", headers=bearer(here))).status_code == 401
    assert (await refresh(client, here["refresh_token"])).status_code == 401
    assert (await refresh(client, there["refresh_token"])).status_code == 200
    assert (await actions(owner)).count("user.signed_out") == 1
    assert (await client.post("/api/v1/auth/logout")).status_code == 401


# One's own password.


async def change(client: httpx.AsyncClient, pair: dict[str, Any], old: str, new: str) -> httpx.Response:
    body = {"old_password": old, "new_password": new}
    return await client.put("/api/v1/auth/me/password", json=body, headers=bearer(pair))


async def test_changing_the_password_ends_all_other_sign_ins_and_keeps_this_one(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    here, there = await signed_in(client, grace.email), await signed_in(client, grace.email)
    answer = await change(client, here, PASSWORD, OTHER_PASSWORD)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    # at once, though the notice that the old version is over may still be on its way
    assert (await me(client, answer.json())).status_code == 200
    for pair in (here, there):
        assert (await me(client, pair)).status_code == 401
    assert (await refresh(client, there["refresh_token"])).status_code == 401
    assert (await refresh(client, answer.json()["refresh_token"])).status_code == 200
    assert (await login(client, grace.email, PASSWORD)).status_code == 401
    assert (await login(client, grace.email, OTHER_PASSWORD)).status_code == 200
    assert "walk" not in str([dict(e) for e in await owner.fetch("select * from audit_log")])


async def test_after_a_change_either_token_of_the_sign_in_works_and_then_a_copy_of_the_other_shows(
    client: httpx.AsyncClient, grace: Person
) -> None:
    old = await signed_in(client, grace.email)
    new = (await change(client, old, PASSWORD, OTHER_PASSWORD)).json()
    newer = await refresh(client, old["refresh_token"])
    assert newer.status_code == 200
    assert (await refresh(client, new["refresh_token"])).status_code == 401
    assert (await refresh(client, newer.json()["refresh_token"])).status_code == 401


async def test_the_new_token_is_good_on_another_instance_that_has_not_heard_yet(two: Instances, grace: Person) -> None:
    one, other = two.clients
    pair = await signed_in(one, grace.email)
    for old, new in ((PASSWORD, OTHER_PASSWORD), (OTHER_PASSWORD, PASSWORD)) * 3:
        assert (await me(other, pair)).status_code == 200
        pair = (await change(one, pair, old, new)).json()
    assert (await me(other, pair)).status_code == 200


async def test_a_wrong_old_password_is_named_audited_and_limited_like_a_log_in(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    pair = await signed_in(client, grace.email)
    answers = await asyncio.gather(*(change(client, pair, f"guess {n}", OTHER_PASSWORD) for n in range(14)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(422), statuses.count(429)) == (10, 4)
    named = next(answer for answer in answers if answer.status_code == 422)
    assert [fault["pointer"] for fault in named.json()["errors"]] == ["/old_password"]
    assert (await login(client, grace.email)).status_code == 429, "one count for both"
    assert (await actions(owner)).count("user.password_change_failed") == 10


async def test_a_weak_new_password_is_refused_before_anything_is_counted(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    pair = await signed_in(client, grace.email)
    uses = "select sum(taken) from rate_limits where key not like 'user:%'"
    before = await owner.fetchval(uses)
    for weak in ("Welcome12345!", "grace@example.com"):
        answer = await change(client, pair, PASSWORD, weak)
        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/new_password"]
    assert await owner.fetchval(uses) == before


async def test_who_has_signed_out_changes_no_password(client: httpx.AsyncClient, grace: Person) -> None:
    pair = await signed_in(client, grace.email)
    await client.post("/api/v1/auth/logout", headers=bearer(pair))
    assert (await change(client, pair, PASSWORD, OTHER_PASSWORD)).status_code == 401
    assert (await login(client, grace.email)).status_code == 200


# Every order of events.


async def test_no_order_of_events_gives_a_token_a_second_life(
    app: Litestar, join: Join, owner: asyncpg.Connection
) -> None:
    """Against a model that is a few sets: a token is good while it is its family's newest and the family lives."""
    loop = asyncio.get_running_loop()
    person = await join()

    def do(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

    class SignIns(RuleBasedStateMachine):
        tokens = Bundle("tokens")

        @initialize()
        def start(self) -> None:
            do(owner.execute("delete from rate_limits; delete from refresh_families"))
            self.client = client_of(app)
            self.http = do(self.client.__aenter__())
            self.live: dict[str, int] = {}  # a family's newest token: the family
            self.family_of: dict[str, int] = {}
            self.access: dict[int, str] = {}

        def teardown(self) -> None:
            do(self.client.__aexit__(None, None, None))

        def _has(self, pair: dict[str, Any], family: int) -> str:
            token: str = pair["refresh_token"]
            self.live[token] = self.family_of[token] = family
            self.access[family] = pair["access_token"]
            return token

        def _end(self, family: int) -> None:
            self.live = {token: f for token, f in self.live.items() if f != family}

        @rule(target=tokens)
        def sign_in(self) -> str:
            return self._has(do(signed_in(self.http, person.email)), len(self.family_of))

        @rule(target=tokens, token=tokens)
        def use(self, token: str) -> str:
            answer = do(refresh(self.http, token))
            family = self.family_of[token]
            assert (answer.status_code == 200) == (token in self.live)
            self.live.pop(token, None)
            if answer.status_code == 200:
                return self._has(answer.json(), family)
            self._end(family)
            return token

        @rule(token=tokens)
        def sign_out(self, token: str) -> None:
            family = self.family_of[token]
            do(self.http.post("/api/v1/auth/logout", headers=bearer(self.access[family])))
            self._end(family)

    limits = examples(
        deadline=None, max_examples=6, stateful_step_count=10, suppress_health_check=list(HealthCheck), database=None
    )
    await asyncio.to_thread(run_state_machine_as_test, SignIns, settings=limits)
