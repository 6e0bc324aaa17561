"""Who acts for whom: the audit log names both, and a command by the account and host that ran it."""

import asyncio
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import httpx

from erp_service.access.principals import Actor, Principal, command
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import environment
from tests.support.clients import UserClient
from tests.support.users import make_user

URL = "/api/v1/audit"


async def test_password_that_an_administrator_sets_is_recorded_with_whose_it_is(
    super_admin: UserClient, viewer: UserClient
) -> None:
    body = {"new_password": "a long one for a test 2026"}
    answer = await super_admin.post(f"/api/v1/users/{viewer.user_id}/reset-password", json=body)
    assert answer.is_success, answer.text
    (entry,) = (await super_admin.get(f"{URL}?on_behalf_of={viewer.user_id}")).json()["items"]
    assert (entry["action"], entry["user_id"]) == ("user.password_reset", super_admin.user_id)


async def test_entries_are_found_by_whom_they_are_for_and_by_what_acted(
    admin: httpx.AsyncClient, database: Database
) -> None:
    owner, other = await make_user(database, Role.VIEWER), await make_user(database, Role.STAFF)
    async with database.write() as db:
        await record(db, Principal(owner, Role.VIEWER), "item.created", 1, on_behalf_of=owner)
        await record(db, Principal(owner, Role.VIEWER, actor=Actor(other)), "item.created", 2)
        await record(db, Principal(owner, Role.VIEWER, actor=Actor(owner, "schedule")), "item.created", 3)
        await record(db, command("erp import"), "item.created", 4, on_behalf_of=owner)
    every = (await admin.get(f"{URL}?entity=item")).json()["items"][::-1]
    name = command("erp import").actor
    assert name is not None
    assert [(entry["user_id"], entry["on_behalf_of"], entry["actor"]) for entry in every] == [
        (owner, None, None),
        (other, owner, None),
        (owner, None, "schedule"),
        (None, owner, name.name),
    ]
    for query, ids in (
        (f"on_behalf_of={owner}", ["4", "2"]),
        ("actor=schedule", ["3"]),
        (f"actor={name.name}", ["4"]),
        (f"user_id={owner}", ["3", "1"]),
    ):
        found = (await admin.get(f"{URL}?{query}")).json()["items"]
        assert [entry["entity_id"] for entry in found] == ids, query


async def test_import_and_new_user_at_the_command_line_name_the_account_and_not_the_environment(
    settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "items.csv"
    file.write_text("sku,name,unit\nA-1,Screw,pcs\n")
    env = environment(settings, LOGNAME="somebody", USER="somebody", SUDO_USER="somebody")
    for words, given in (
        (("import", "items", str(file)), ""),
        (("create-user", "new@example.com", "--role", "VIEWER"), "quite a long password of 2026\n"),
    ):
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "erp_service", *words], env=env, input=given,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    rows = await owner.fetch("select action, user_id, actor, request_id from audit_log order by id")
    who = f"command:{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"
    assert [tuple(row) for row in rows] == [
        ("import.items", None, who, "erp import"),
        ("user.created", None, who, "erp create-user"),
    ]
