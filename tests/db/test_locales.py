"""The same questions have the same answers, whatever the locale of the database."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from erp_service import errors
from erp_service.access.principals import system
from erp_service.access.roles import Role
from erp_service.auth.queries import users as user_page
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.db.sessions import ReadSession
from erp_service.exports.planning.selection import Spec, query
from erp_service.inventory import items, locations
from erp_service.inventory.datasets import ITEMS, LOCATIONS
from erp_service.inventory.queries.items import item_page
from erp_service.inventory.queries.locations import location_page
from erp_service.inventory.schemas import CodeText, ItemBody, LocationBody, NameText, SkuText, UnitText
from erp_service.standalone.postgres import Cluster
from tests.support.databases import as_owner, connected
from tests.support.settings import settings_for
from tests.support.users import make_user

# As people sort: capitals and accents make no difference, numbers count.
SORTED = [
    *("2 x Kabel", "10 x Kabel", "Ähre", "Apfel", "äpfel grün", "Bolt 1", "Bolt 2", "bolt 10", "Échelle", "écrou"),
    *(
        "ISI",
        "Işık",
        "İstanbul",
        "Łódź",
        "Öl",
        "Ost",
        "Straße",
        "STRASSE 2",
        "Überzug",
        "Zange",
        "Ωμέγα",
        "болт",
        "螺栓",
    ),
]

# what is searched, and the names that have it
FOUND = {
    "äpfel": ["Apfel", "äpfel grün"],
    "ÄPFEL": ["Apfel", "äpfel grün"],
    "a\u0308pfel": ["Apfel", "äpfel grün"],
    "apfel": ["Apfel", "äpfel grün"],
    "ECHELLE": ["Échelle"],
    "istanbul": ["İstanbul"],
    "ISTANBUL": ["İstanbul"],
    "isik": ["Işık"],
    "isi": ["ISI", "Işık"],
    "strasse": ["Straße", "STRASSE 2"],
    "STRAßE": ["Straße", "STRASSE 2"],
    "lodz": ["Łódź"],
    "ωμεγα": ["Ωμέγα"],
    "БОЛТ": ["болт"],
    "螺": ["螺栓"],
    "uber": ["Überzug"],
    "%": [],
    "_": [],
}


class Answers(NamedTuple):
    """What one database answers to all questions of this test."""

    sorted: list[str]
    downwards: list[str]
    by_sku: list[str]
    places: list[str]
    found: dict[str, list[str]]
    exported: list[str]
    exported_places: int
    users: dict[str, int]


async def locales(owner: asyncpg.Connection) -> dict[str, str]:
    """Databases to compare with that of the server: each with a locale under which something else is lower case, or
    sorts first. ICU has the last two, and not every server has ICU."""
    found = {"locale_c": "locale_provider libc locale 'C'"}
    if await owner.fetchval("select exists (select from pg_collation where collname = 'und-x-icu')"):
        # a Turkish i is not the small letter of I; a Swedish Ö sorts after Z
        found["turkish"] = "locale_provider icu icu_locale 'tr-TR' locale 'C'"
        found["swedish"] = "locale_provider icu icu_locale 'sv-SE' locale 'C'"
    return found


@pytest.fixture
async def answers(
    cluster: Cluster, tmp_path: Path, owner: asyncpg.Connection, database_name: str
) -> AsyncIterator[dict[str, Answers]]:
    made = await locales(owner)
    for name, locale in made.items():
        await as_owner(cluster, f"create database \"{name}\" template template0 encoding 'UTF8' {locale}")
        await schema.migrate(cluster.owner_url(name))
    yield {name: await answers_of(cluster, name, tmp_path) for name in (database_name, *made)}
    for name in made:
        await as_owner(cluster, f'drop database "{name}" with (force)')


async def answers_of(cluster: Cluster, name: str, directory: Path) -> Answers:
    database = Database(settings_for(cluster, name, directory), name="erp test")
    try:
        await fill(database)
        return await ask(database, cluster.owner_url(name))
    finally:
        await database.close()


async def fill(database: Database) -> None:
    who = system("test")
    async with database.write() as db:
        # in another order than any that is asked for
        for number, name in enumerate(sorted(SORTED, key=lambda name: name[::-1])):
            sku = f"{'aAbB'[number % 4]}-{name}"
            await items.create(db, who, ItemBody(sku=SkuText(sku), name=NameText(name), unit=UnitText("pcs")))
            body = LocationBody(code=CodeText(f"L{number}"), name=NameText(name), location_type="BIN")
            await locations.create(db, who, body)
    await make_user(database, Role.STAFF)


async def ask(database: Database, owner_url: str) -> Answers:
    async with database.read() as db:
        by_name = await traversed(db, "name")
        found = {
            part: [item.name for item in (await item_page(db, q=part, sort="name", limit=50)).items] for part in FOUND
        }
        places = await location_page(db, q="L", sort="name", limit=50)
        users = {q: await count_of_users(db, q) for q in ("EXAMPLE", "\u00ebx\u00e1mple", "nobody")}
        by_sku = [item.sku for item in (await item_page(db, sort="sku", limit=50)).items]
        downwards = [item.name for item in (await item_page(db, sort="-name", limit=50)).items]
    spec = Spec(columns=["name"], filter={"q": "\u00c9"}, sort="name")
    exported, places_query = query(ITEMS, spec), query(LOCATIONS, Spec(filter={"q": "BOLT"}, sort="-name"))
    async with connected(owner_url) as owner:
        names = [row[0] for row in await owner.fetch(exported.sql, *exported.arguments)]
        count = len(await owner.fetch(places_query.sql, *places_query.arguments))
    return Answers(by_name, downwards, by_sku, [place.name for place in places.items], found, names, count, users)


async def count_of_users(db: ReadSession, q: str) -> int:
    page = await user_page(db, role=None, is_active=None, q=q, sort="email", limit=50, cursor=None)
    return len(page.items)


async def traversed(db: ReadSession, sort: str) -> list[str]:
    """Page by page, so that the cursor compares as the pages are sorted."""
    names: list[str] = []
    cursor = None
    while True:
        page = await item_page(db, sort=sort, limit=3, cursor=cursor)
        names += [item.name for item in page.items]
        if (cursor := page.next_cursor) is None:
            return names


async def test_answers_do_not_depend_on_the_locale_of_the_database(answers: dict[str, Answers]) -> None:
    assert len(answers) >= 2
    for name, given in answers.items():
        assert given.sorted == SORTED, name
        assert given.downwards == SORTED[::-1], name
        assert given.found == FOUND, name
        assert given.by_sku == sorted(given.by_sku), name
        assert given.places == SORTED, name
        assert given.users == {"EXAMPLE": 1, "\u00ebx\u00e1mple": 1, "nobody": 0}
    first, *others = answers.values()
    assert all(other == first for other in others)


async def test_a_database_that_is_not_utf8_is_refused_with_what_to_do(cluster: Cluster) -> None:
    await as_owner(
        cluster, "create database ascii template template0 encoding 'SQL_ASCII' locale_provider libc locale 'C'"
    )
    with pytest.raises(errors.Refused, match="has the encoding SQL_ASCII, and the service needs UTF8"):
        await schema.migrate(cluster.owner_url("ascii"))
    await as_owner(cluster, "drop database ascii with (force)")
