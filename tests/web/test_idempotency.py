"""Idempotency-Key: one effect, however often and to whichever instance a request is sent."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.di import NamedDependency
from litestar.params import JSONBody
from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.app import create_app
from erp_service.audit.record import record
from erp_service.db.engine import Database
from erp_service.db.outages import NotReplicated
from erp_service.db.sessions import WriteSession
from erp_service.services import build_services
from erp_service.settings import Settings
from erp_service.web import idempotency
from erp_service.web.responses import Answer, ApiResponse, created
from erp_service.web.routing import post
from tests.support.apps import running
from tests.support.clients import client_of
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually


class Effect(msgspec.Struct, forbid_unknown_fields=True):
    note: str = ""
    end: Literal["well", "refused", "bug", "commit fails", "waits"] = "well"


@post("/test/effects", role=Role.VIEWER, scope=Keys.NONE)
async def effect(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Effect]
) -> ApiResponse[Effect]:
    await record(write, who, "test.effected", data.note or "-")
    match data.end:
        case "refused":
            raise errors.Conflict
        case "bug":
            raise RuntimeError("a bug")
        case "commit fails":
            await write.execute(text("insert into late (refers) values (1)"))
        case "waits":
            await write.execute(text("select pg_advisory_xact_lock(42)"))
    return created(data, "/test/effects/1", version=7)


@pytest.fixture
async def two(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """The same user on two instances."""
    await owner.execute(
        "create table late (refers int references late_target deferrable initially deferred)"
        if await owner.fetchval("select to_regclass('late_target')")
        else "create table late_target (id int primary key);"
        "create table late (refers int references late_target deferrable initially deferred);"
        "grant all on late to public"
    )
    token = token_of(settings, await make_user(database, Role.VIEWER))
    first, second = _instance(settings), _instance(settings)
    async with running(first), running(second), client_of(first, token) as one, client_of(second, token) as other:
        yield [one, other]


def _instance(settings: Settings) -> Litestar:
    app = create_app(build_services(settings))
    app.register(effect)
    return app


async def send(client: httpx.AsyncClient, key: str | None, **body: str) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post("/test/effects", json=body, headers=headers)


async def effects(owner: asyncpg.Connection) -> int:
    return int(await owner.fetchval("select count(*) from audit_log where action = 'test.effected'"))


async def test_retry_on_another_instance_gets_the_first_answer_and_no_second_effect(
    two: list[httpx.AsyncClient], owner: asyncpg.Connection
) -> None:
    first = await send(two[0], "k1", note="a")
    again = await send(two[1], "k1", note="a")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert {h: again.headers[h] for h in ("location", "etag", "content-type")} == {
        h: first.headers[h] for h in ("location", "etag", "content-type")
    }
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert await effects(owner) == 1


async def test_a_commit_that_no_standby_confirmed_is_an_error_and_the_retry_gets_its_answer(
    two: list[httpx.AsyncClient], owner: asyncpg.Connection
) -> None:
    """Postgres says so by a warning with the answer to COMMIT; tests/db/test_servers.py has the real thing."""
    await owner.execute("""
        create function warn() returns trigger language plpgsql as $$ begin raise warning 'alone'; return null; end $$;
        create constraint trigger warn after insert on audit_log deferrable initially deferred
          for each row execute function warn();
    """)
    first = await send(two[0], "k1", note="a")
    assert first.status_code == 503
    assert first.headers["retry-after"]
    await owner.execute("drop trigger warn on audit_log")
    again = await send(two[1], "k1", note="a")
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert await effects(owner) == 1


async def test_nothing_is_replayed_before_a_standby_has_confirmed_it(
    two: list[httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that was cut off, and restarted, shows what it committed alone."""

    async def unconfirmed(_: WriteSession) -> None:
        raise NotReplicated

    assert (await send(two[0], "k1", note="a")).status_code == 201
    monkeypatch.setattr(WriteSession, "commit_replicated", unconfirmed)
    again = await send(two[1], "k1", note="a")
    assert again.status_code == 503
    assert "idempotency-replayed" not in again.headers


async def test_without_a_key_each_request_has_its_effect(
    two: list[httpx.AsyncClient], owner: asyncpg.Connection
) -> None:
    await send(two[0], None)
    await send(two[0], None)
    assert await effects(owner) == 2


async def test_key_of_another_request_is_refused(two: list[httpx.AsyncClient], owner: asyncpg.Connection) -> None:
    await send(two[0], "k1", note="a")
    other = await send(two[1], "k1", note="b")
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")
    query = await two[1].post("/test/effects?x=1", json={"note": "a"}, headers={"Idempotency-Key": "k1"})
    assert query.status_code == 422
    assert await effects(owner) == 1


async def test_first_request_still_running_elsewhere_is_said_at_once(
    two: list[httpx.AsyncClient], owner: asyncpg.Connection
) -> None:
    await owner.execute("select pg_advisory_lock(42)")
    first = asyncio.create_task(send(two[0], "k1", end="waits"))

    async def waiting() -> bool:
        return bool(await owner.fetchval("select count(*) from pg_locks where not granted and locktype = 'advisory'"))

    await eventually(waiting)
    second = await send(two[1], "k1", end="waits")
    assert (second.status_code, second.json()["type"]) == (409, "/problems/still-running")
    assert second.headers["retry-after"] == "1"
    await owner.execute("select pg_advisory_unlock(42)")
    assert (await first).status_code == 201
    assert (await send(two[1], "k1", end="waits")).headers["idempotency-replayed"] == "true"
    assert await effects(owner) == 1


async def test_forty_at_once_on_two_instances_have_one_effect(
    two: list[httpx.AsyncClient], owner: asyncpg.Connection
) -> None:
    answers = await asyncio.gather(*(send(two[n % 2], "k1", note="once") for n in range(40)))
    assert {a.status_code for a in answers} <= {201, 409}
    assert sum(a.status_code == 201 and "idempotency-replayed" not in a.headers for a in answers) == 1
    assert await effects(owner) == 1


@pytest.mark.parametrize(("end", "status"), [("refused", 409), ("bug", 500), ("commit fails", 409)])
async def test_what_failed_left_nothing_and_is_not_replayed(
    two: list[httpx.AsyncClient], owner: asyncpg.Connection, end: str, status: int
) -> None:
    for client in two:
        answer = await send(client, "k1", end=end)
        assert answer.status_code == status
        assert "idempotency-replayed" not in answer.headers
    assert await effects(owner) == 0
    assert (await send(two[0], "k1", end="well")).status_code == 201


async def test_keys_are_each_users_own(
    two: list[httpx.AsyncClient], settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    await send(two[0], "k1")
    two[1].headers["Authorization"] = f"Bearer {token_of(settings, await make_user(database, Role.VIEWER))}"
    assert "idempotency-replayed" not in (await send(two[1], "k1")).headers
    assert await effects(owner) == 2


async def test_a_key_is_forgotten_after_a_day(two: list[httpx.AsyncClient], owner: asyncpg.Connection) -> None:
    await send(two[0], "k1", note="a")
    await owner.execute("update idempotency set created_at = now() - interval '24 hours 1 second'")
    assert "idempotency-replayed" not in (await send(two[0], "k1", note="b")).headers
    assert (await send(two[0], "k1", note="b")).headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "\x7f"])
async def test_a_key_that_is_none_is_named(two: list[httpx.AsyncClient], key: str) -> None:
    answer = await two[0].post("/test/effects", json={}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "Idempotency-Key"


async def test_request_with_the_same_key_that_committed_after_the_claim_looked_takes_effect_once(
    database: Database, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim looks by a snapshot from before it has the lock."""
    user_id = await make_user(database, Role.VIEWER)
    answer = Answer(201, [], b"{}")

    async def second() -> None:
        async with database.write() as db:
            await record(db, Principal(user_id, Role.VIEWER), "test.effected", "second")
            await owner.execute(
                "insert into idempotency (user_id, key, digest, status, headers, body)"
                " values ($1, 'k', 'd', 201, '{}', 'first')",
                user_id,
            )
            await idempotency._record(db, idempotency.Claim(user_id, "k", b"e"), answer)

    with pytest.raises(errors.StillRunning):
        await second()
    assert await owner.fetchval("select body from idempotency") == b"first"
    assert await owner.fetchval("select count(*) from audit_log where action = 'test.effected'") == 0
    await owner.execute("update idempotency set created_at = now() - interval '25 hours'")
    async with database.write() as db:
        await idempotency._record(db, idempotency.Claim(user_id, "k", b"e"), answer)
    assert await owner.fetchval("select body from idempotency") == b"{}", "an expired one is written over"
