"""What migration 0012 does to texts that are there already: normalised where nothing is in the way, listed where two
look alike, and never merged."""

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from erp_service.db import migrate as schema
from erp_service.inventory import look_alikes
from erp_service.standalone.postgres import Cluster
from tests.support.databases import as_owner, connected
from tests.support.schemas import migrate_to_before

ITEMS = [
    ("CAFE\u0301-1", "Cafe\u0301", "me\u0300tre", None),
    ("TH\u00c9", "The\u0301", "pcs", None),
    ("THE\u0301", "Tea", "pcs", None),
    ("A\u00a0B", "Nut", "pcs", None),
    ("A B", "Nut", "pcs", None),
    ("A  B", "Nut", "pcs", None),
    ("PLAIN", "Bolt", "pcs", None),
    ("TAG\U000e0041", "Label", "pcs", None),
    ("GONE\u200b", "Gone", "pcs", "2026-01-01T00:00:00Z"),
]


@pytest.fixture
async def old_database(cluster: Cluster) -> AsyncIterator[str]:
    """The address of a database of the release before, with texts that it took."""
    await as_owner(cluster, "create database old_texts")
    url = cluster.owner_url("old_texts")
    await migrate_to_before(url, "0012")
    async with connected(url) as db:
        await db.executemany(
            "insert into items (sku, name, unit, deleted_at) values ($1, $2, $3, $4::text::timestamptz)", ITEMS
        )
        await db.execute("insert into locations (code, name, location_type) values (U&'L\\0041\\030A', 'L', 'BIN')")
    yield url
    await as_owner(cluster, "drop database old_texts with (force)")


async def test_old_texts_are_normalised_and_look_alikes_are_listed_and_never_merged(old_database: str) -> None:
    await schema.migrate(old_database)
    async with connected(old_database) as db:
        rows = await db.fetch("select sku, name, unit, version from items order by id")
        assert [row["sku"] for row in rows] == ["CAF\u00c9-1", *(item[0] for item in ITEMS[1:])]
        assert (rows[0]["name"], rows[0]["unit"]) == ("Caf\u00e9", "m\u00e8tre")
        # a client's ETag of what was changed is stale now
        assert [row["version"] > 1 for row in rows] == [True, True, *[False] * 7]
        assert await db.fetchval("select code from locations") == "L\u00c5"
        audited = await db.fetch("select action, entity_id, user_id, before, after from audit_log order by id")
        assert [(row["action"], row["entity_id"], row["user_id"]) for row in audited] == [
            ("item.updated", "1", None),
            ("location.updated", "1", None),
        ]
        assert json.loads(audited[0]["before"]) == {"sku": "CAFE\u0301-1"}
        assert json.loads(audited[0]["after"]) == {"sku": "CAF\u00c9-1"}

        found = await look_alikes.find(db)
        assert [(each.id, each.others) for each in found] == [(3, (2,)), (4, (5, 6)), (6, (4, 5)), (8, ())]
        lines = list(look_alikes.report(found))
        assert lines[1:5] == [
            "  item 3: 'THE\\u0301' is not in Unicode's composed form (NFC); it looks like item 2",
            "  item 4: 'A\\xa0B' has a blank other than the plain one (U+00A0) at position 2; it looks like items 5, 6",
            "  item 6: 'A  B' has two blanks in a row at position 2; it looks like items 4, 5",
            "  item 8: 'TAG\\U000e0041' has an invisible character (U+E0041) at position 4",
        ]
        assert "PUT /api/v1/inventory/items/{id}" in lines[-1]


async def test_a_look_alike_of_before_can_be_deleted_or_renamed_and_not_written_anew(old_database: str) -> None:
    await schema.migrate(old_database)
    async with connected(old_database) as db:
        new = "insert into {} ({}, name, {}) values (U&'NE\\0301', 'New', {})"
        with pytest.raises(asyncpg.CheckViolationError) as refusal:
            await db.execute(new.format("items", "sku", "unit", "'pcs'"))
        assert refusal.value.constraint_name == "items_sku_nfc"
        with pytest.raises(asyncpg.CheckViolationError) as refusal:
            await db.execute(new.format("locations", "code", "location_type", "'BIN'"))
        assert refusal.value.constraint_name == "locations_code_nfc"
        valid = "select convalidated from pg_constraint where conname = $1"
        assert not await db.fetchval(valid, "items_sku_nfc")
        assert await db.fetchval(valid, "locations_code_nfc")
        await db.execute("update items set deleted_at = now() where id = 3")
        await db.execute("update items set sku = 'AB' where id in (4)")
        assert [each.id for each in await look_alikes.find(db)] == [6, 8]


async def test_a_dump_is_restored_under_an_empty_search_path(owner: asyncpg.Connection) -> None:
    await owner.execute("set search_path = ''")
    await owner.execute("insert into public.items (sku, name, unit) values ('A', 'Kabél 2', 'pcs')")
    row = await owner.fetchrow("select search, name_key from public.items")
    assert tuple(row) == ("a\nkabel 2", "kabel 0000000002")
