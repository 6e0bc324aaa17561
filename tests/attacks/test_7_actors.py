"""Whoever acts as somebody else is named beside them, and has no more rights than their own."""

from tests.attacks.target import Target

SCHEDULES, USERS = "/api/v1/exports/schedules", "/api/v1/users"
DAILY = {"cron": "0 6 * * *", "timezone": "Europe/Berlin", "spec": {"dataset": "items"}, "is_active": True}


async def test_admin_who_runs_the_schedule_of_a_super_admin_is_named(target: Target) -> None:
    async with target.client(target.super_admin) as theirs, target.client(target.admin) as ours:
        owner, actor = [(await client.get("/api/v1/auth/me")).json()["id"] for client in (theirs, ours)]
        schedule = (await theirs.post(SCHEDULES, json=DAILY)).raise_for_status().json()
        path = f"{SCHEDULES}/{schedule['id']}"
        (await ours.put(path, json={**DAILY, "cron": "0 7 * * *"})).raise_for_status()
        (await ours.post(f"{path}/run")).raise_for_status()
        query = {"entity": "schedule", "entity_id": schedule["id"]}
        entries = (await theirs.get("/api/v1/audit", params=query)).raise_for_status().json()["items"]
    persons = {entry["action"]: (entry["user_id"], entry["on_behalf_of"]) for entry in entries}
    assert persons["schedule.created"] == (owner, None)
    assert persons["schedule.updated"] == (actor, owner)
    assert persons["schedule.run"] == (actor, owner)


async def test_well_known_passwords_are_refused(target: Target) -> None:
    known = ["passwordpassword", "iloveyou1234", "qwertyuiop123", "letmein12345", "administrator1", "123456789012"]
    async with target.client(target.super_admin) as client:
        for n, password in enumerate(known):
            body = {"email": f"new{n}@example.com", "full_name": "New Person", "role": "VIEWER", "password": password}
            answer = await client.post(USERS, json=body)
            assert answer.status_code == 422, password
