"""Whoever has lost the device and the recovery codes is let in by a SUPER_ADMIN, or by who has the database's
address."""

import asyncio

import asyncpg
import httpx
from click.testing import CliRunner, Result

from erp_service.access.roles import Role
from erp_service.cli import main
from erp_service.settings import Settings
from tests.acceptance.instances import environment
from tests.auth.devices import enrolled, log_in, with_device
from tests.auth.people import Join, actions, bearer, me, signed_in, slug
from tests.support.apps import Instances
from tests.support.clients import UserClient
from tests.support.waiting import eventually


async def invoked(settings: Settings, *arguments: str, given: str = "") -> Result:
    runner = CliRunner(env=environment(settings))
    return await asyncio.to_thread(runner.invoke, main, ["create-user", *arguments], input=given)


async def test_a_super_admin_resets_it_and_all_sign_ins_end_everywhere(
    two: Instances, super_admin: UserClient, admin: UserClient, join: Join, owner: asyncpg.Connection
) -> None:
    one, other = two.clients
    person = await join(Role.ADMIN)
    device, pair = await with_device(one, person)
    assert (await me(other, pair)).status_code == 200
    url, body = f"/api/v1/users/{person.id}/reset-totp", {"reason": "lost it, seen in person"}
    assert slug(await admin.post(url, json=body)) == "forbidden"
    assert (await super_admin.post(url, json={})).status_code == 422
    assert (await super_admin.post(url, json=body)).status_code == 204

    async def is_refused() -> bool:
        return (await me(other, pair)).status_code == 401

    await eventually(is_refused, seconds=2)
    assert not (await super_admin.get(f"/api/v1/users/{person.id}")).json()["second_factor"]
    assert (await super_admin.post(url, json=body)).status_code == 204, "nothing is left to do"
    [entry] = await owner.fetch("select * from audit_log where action = 'user.second_factor_reset'")
    assert (entry["user_id"], entry["on_behalf_of"]) == (super_admin.user_id, person.id)
    assert entry["reason"] == body["reason"]
    assert (await log_in(one, person.email, None)).status_code == 200
    new = await enrolled(one, await signed_in(one, person.email))
    assert slug(await log_in(one, person.email, device.recovery_codes[0])) == "second-factor-wrong"
    assert (await log_in(one, person.email, new.code())).status_code == 200


async def test_nobody_resets_their_own_with_a_token(client: httpx.AsyncClient, join: Join) -> None:
    person = await join(Role.SUPER_ADMIN)
    _, pair = await with_device(client, person)
    url = f"/api/v1/users/{person.id}/reset-totp"
    answer = await client.post(url, json={"reason": "a stolen token"}, headers=bearer(pair))
    assert (answer.status_code, slug(answer)) == (403, "own-account")


async def test_the_last_super_admin_is_let_in_by_a_command(
    client: httpx.AsyncClient, join: Join, settings: Settings, owner: asyncpg.Connection
) -> None:
    person = await join(Role.SUPER_ADMIN, "Grace@Example.com")
    _, pair = await with_device(client, person)
    done = await invoked(settings, "grace@example.com", "--reset-totp")
    assert (done.exit_code, done.stderr) == (0, "grace@example.com has no second factor any more.\n")
    again = await invoked(settings, "grace@example.com", "--reset-totp")
    assert (again.exit_code, again.stderr) == (0, "grace@example.com had no second factor.\n")
    assert (await log_in(client, person.email, None)).status_code == 200
    assert (await me(client, pair)).status_code == 401
    entry = await owner.fetchrow("select * from audit_log where action = 'user.second_factor_reset'")
    assert entry["actor"].startswith("command:")
    assert (await actions(owner)).count("user.second_factor_reset") == 1


async def test_the_command_says_what_is_wrong(settings: Settings, owner: asyncpg.Connection) -> None:
    nobody = await invoked(settings, "nobody@example.com", "--reset-totp")
    assert (nobody.exit_code, nobody.stderr) == (1, "erp: No user has the e-mail nobody@example.com.\n")
    both = await invoked(settings, "ada@example.com", "--reset-totp", "--role", "ADMIN")
    assert both.exit_code == 2
    assert "--reset-totp takes no other option" in both.stderr
    none = await invoked(settings, "ada@example.com", given="a phrase to remember\n")
    assert none.exit_code == 2
    assert "--role" in none.stderr
    made = await invoked(settings, "ada@example.com", "--role", "STAFF", "--temporary", given="a phrase to remember\n")
    assert made.exit_code == 0, made.stderr
    row = await owner.fetchrow("select must_change_password, password_expires_at > now() as expires from users")
    assert tuple(row) == (True, True)
