"""What an access review looks at: one row for each user."""

import json

import httpx

from erp_service.access.roles import Role
from tests.auth.devices import log_in, with_device
from tests.auth.keys import KEYS, make_key
from tests.auth.people import Join, login
from tests.exports.jobs import JOBS, done
from tests.support.clients import UserClient
from tests.support.workers import Work


async def test_each_user_with_what_an_auditor_asks_for(
    client: httpx.AsyncClient, super_admin: UserClient, join: Join, work: Work
) -> None:
    grace, ada = await join(Role.STAFF), await join(Role.VIEWER, "ada@example.com")
    await with_device(client, grace)
    await log_in(client, grace.email, "000000")
    await login(client, grace.email, "a wrong password")
    await login(client, ada.email)
    await login(client, ada.email)
    _, revoked = await make_key(super_admin), await make_key(super_admin)
    assert (await super_admin.delete(f"{KEYS}/{revoked.id}")).status_code == 204
    body = {"role": "ADMIN", "reason": "runs the shop now"}
    assert (await super_admin.post(f"/api/v1/users/{grace.id}/role", json=body)).status_code == 200
    async with work():
        job = await done(super_admin, "access_review", format="jsonl", filter={"q": "@example.com"}, sort="email")
        text = (await super_admin.get(f"{JOBS}/{job['id']}/download")).text
        without = await done(super_admin, "access_review", filter={"second_factor": False}, columns=["id"])
        late = await done(super_admin, "access_review", filter={"no_login_since": "2020-01-01"}, columns=["id"])
    rows = {row["email"]: row for row in map(json.loads, text.splitlines())}
    keys = {row["id"]: row["active_api_keys"] for row in rows.values()}
    assert keys == {grace.id: 0, ada.id: 0, super_admin.user_id: 1}
    hers, other = rows[grace.email], rows[ada.email]
    assert (hers["role"], hers["role_changed_by"]) == ("ADMIN", super_admin.user_id)
    assert hers["role_changed_at"] > hers["last_login_at"]
    assert (hers["failed_sign_ins_30_days"], hers["open_sign_ins"]) == (2, 0), "the change of the role ended them"
    assert hers["second_factor_since"] is not None
    assert (other["failed_sign_ins_30_days"], other["open_sign_ins"]) == (0, 2)
    assert (other["role_changed_at"], other["second_factor_since"], other["must_change_password"]) == (
        None,
        None,
        False,
    )
    assert other["password_set_at"] is not None
    assert without["result"]["rows"] == len(rows) - 1
    assert late["result"]["rows"] == 0


async def test_it_is_not_for_staff(client: httpx.AsyncClient, staff: UserClient) -> None:
    assert (await staff.post(JOBS, json={"dataset": "access_review"})).status_code == 403
