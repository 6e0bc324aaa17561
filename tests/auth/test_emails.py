"""Which e-mails are one person, whatever the locale of the database."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_service import errors
from erp_service.access.roles import Role
from erp_service.app import create_app
from erp_service.auth.emails import email_key
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.services import build_services
from erp_service.standalone.postgres import Cluster
from tests.auth.people import HASH, Join, login, slug
from tests.support.apps import running
from tests.support.clients import UserClient, client_of
from tests.support.databases import as_owner, connected
from tests.support.schemas import migrate_to_before
from tests.support.settings import settings_for
from tests.support.users import make_user

USERS = "/api/v1/users"
INSERT = "insert into users (email, full_name, role, password_hash) values ($1, 'X', 'VIEWER', $2)"
"""What the version before writes: no key."""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("grace@example.com", "GRACE@Example.COM"),
        ("jörg@example.com", "JÖRG@example.com"),
        ("jörg@example.com", "jo\u0308rg@example.com"),
        ("straße@example.com", "STRASSE@example.com"),
        ("οδυσσεύς@example.com", "ΟΔΥΣΣΕΎΣ@example.com"),
        ("INFO@example.com", "\u0130NFO@example.com"),
        ("\u01d6@example.com", "U\u0304\u0308@example.com".replace("U\u0304\u0308", "U\u0308\u0304")),
        (" grace@example.com", "grace@example.com"),
    ],
)
def test_one_person_however_it_is_typed(one: str, other: str) -> None:
    assert email_key(one) == email_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("jorg@example.com", "jörg@example.com"), ("ann@example.com", "anne@example.com")]
)
def test_two_people(one: str, other: str) -> None:
    assert email_key(one) != email_key(other)


@given(st.text())
def test_the_key_of_a_key_is_itself_and_capitals_never_change_it(text: str) -> None:
    key = email_key(text)
    assert email_key(key) == key
    assert email_key(text.casefold()) == key


@pytest.fixture
async def locale_c(cluster: Cluster) -> AsyncIterator[str]:
    """The name of an empty database whose `lower()` knows ASCII only."""
    name = "locale_c"
    how = "template template0 encoding 'UTF8' locale_provider libc locale 'C'"
    await as_owner(cluster, f"create database {name} {how}")
    yield name
    await as_owner(cluster, f"drop database {name} with (force)")


async def test_two_spellings_of_one_email_are_one_person_in_a_database_with_locale_c(
    cluster: Cluster, locale_c: str, tmp_path: Path
) -> None:
    url = cluster.owner_url(locale_c)
    await migrate_to_before(url, "0010")
    async with connected(url) as owner:
        for email in ("jörg@example.com", "JÖRG@example.com", "ann@example.com"):
            await owner.execute(INSERT, email, HASH)
        with pytest.raises(errors.Conflict) as refused:
            await schema.migrate(url)
        assert "user 1 (jörg@example.com, active) and user 2 (JÖRG@example.com, active)" in str(refused.value)
        assert "ann@" not in str(refused.value)
        await owner.execute("update users set email = 'other@example.com' where id = 2")
        await schema.migrate(url)
        # an instance of the version before still runs
        with pytest.raises(asyncpg.UniqueViolationError, match="users_email_key"):
            await owner.execute(INSERT, "JÖRG@example.com", HASH)
        await owner.execute(INSERT, "ÄNNE@example.com", HASH)
        await owner.execute("update users set email = 'STRASSE@example.com' where id = 3")
        rows = await owner.fetch("select email, email_key from users")
        assert [row["email_key"] for row in rows] == [email_key(row["email"]) for row in rows]

    app = create_app(build_services(settings_for(cluster, locale_c, tmp_path)))
    async with running(app), client_of(app) as client:
        for email in ("jörg@example.com", "JÖRG@example.com", "änne@example.com", "straße@example.com"):
            assert (await login(client, email)).status_code == 200, email


async def test_an_email_with_invisible_characters_is_refused(admin: httpx.AsyncClient) -> None:
    for email in (
        "a\u200bnn@example.com",
        "ann\u00ad@example.com",
        "ann@exa\ufe0fmple.com",
        "ann\u00a0b@example.com",
        "\U000e0061nn@example.com",
        "ann@example.com\u2060",
    ):
        body = {"email": email, "full_name": "Ann", "role": "VIEWER", "password": "a long walk by the sea"}
        answer = await admin.post(USERS, json=body)
        assert answer.status_code == 422, ascii(email)
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/email"]


async def test_every_way_in_compares_by_the_same_key(
    admin: UserClient, client: httpx.AsyncClient, join: Join, database: Database
) -> None:
    person = await join(email="jörg@example.com")
    for email in ("JÖRG@example.com", "jo\u0308rg@EXAMPLE.com"):
        assert (await login(client, email)).status_code == 200
        body = {"email": email, "full_name": "J", "role": "VIEWER", "password": "a long walk by the sea"}
        answer = await admin.post(USERS, json=body)
        assert (answer.status_code, slug(answer)) == (409, "email-taken")
    other = await make_user(database, Role.VIEWER, "other@example.com")
    change = {"email": "JÖRG@example.com", "full_name": "Other"}
    assert slug(await admin.put(f"{USERS}/{other}", json=change)) == "email-taken"
    # and a change of capitals alone is no other person
    assert (await admin.put(f"{USERS}/{person.id}", json=change)).json()["email"] == "JÖRG@example.com"
    assert (await login(client, "jörg@example.com")).status_code == 200
