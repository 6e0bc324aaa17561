"""`erp verify` finds what was done to audit log, ledger and trail, even by their owner with the triggers lifted."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from erp_service.audit.sealing.heads import NoHead, head_proof
from erp_service.audit.sealing.proofs import PROOFS
from erp_service.operations.verify import verify
from erp_service.registry.proofs import Finding
from erp_service.settings import Settings
from tests.support.clients import UserClient
from tests.support.trail import seal_all, sealing

TABLES = ("audit_log", "stock_ledger", "trail")
ENTRY = """
insert into audit_log (action, entity, entity_id, after)
select 'item.created', 'item', n::text, '{"sku": "A"}' from generate_series(%s, %s) n
"""
ROWS = """
insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value, on_hand_after,
  item_on_hand_after, value_after, occurred_at)
select gen_random_uuid(), 1, n, 1, 'IN', 1, 1, 1, 1, 1, now() from generate_series(%s, %s) n
"""

TAMPERED = {
    "an entry was changed": (
        'update audit_log set after = \'{"sku": "B"}\' where id = 4',
        {("trail", "what it covers was changed")},
    ),
    "an entry's time was changed": (
        "update audit_log set at = at + interval '1 microsecond' where id = 4",
        {("trail", "what it covers was changed")},
    ),
    "an entry was removed": (
        "delete from audit_log where id = 4",
        {("trail", "what it covers is not there, or not all of it")},
    ),
    "an entry was added": (
        """
        insert into audit_log (id, action, entity, entity_id) overriding system value
        values (0, 'item.deleted', 'item', '1')
        """,
        {("trail coverage", "it has no position")},
    ),
    "two entries were swapped": (
        "update audit_log a set entity_id = b.entity_id from audit_log b where a.id in (2, 4) and b.id = 6 - a.id",
        {("trail", "what it covers was changed")},
    ),
    "a row was changed": (
        "update stock_ledger set quantity = 2 where id = 4",
        {("trail", "what it covers was changed")},
    ),
    "a row was removed": (
        "delete from stock_ledger where id = 4",
        {("trail", "what it covers is not there, or not all of it")},
    ),
    "a row was added": (
        """
        insert into stock_ledger (id, transaction_id, line, item_id, location_id, entry_type, quantity, value,
          on_hand_after, item_on_hand_after, value_after, occurred_at) overriding system value
        values (0, gen_random_uuid(), 1, 1, 1, 'IN', 1, 1, 1, 1, 1, now())
        """,
        {("trail coverage", "no position covers it")},
    ),
    "two rows were swapped": (
        "update stock_ledger a set item_id = b.item_id from stock_ledger b where a.id in (2, 4) and b.id = 6 - a.id",
        {("trail", "what it covers was changed")},
    ),
    "a link was changed": (
        "update trail set link = sha256(link) where position = 3",
        {("trail", "its link does not follow from the one before: the trail itself was changed here")},
    ),
    "a time of the trail was changed": (
        "update trail set sealed_at = sealed_at - interval '1 day' where position = 3",
        {("trail", "its link does not follow from the one before: the trail itself was changed here")},
    ),
    "an entry and its digest were changed": (
        """
        with spoiled as (update audit_log set reason = 'other' where id = 2)
        update trail set digest = sha256('other') where position = 2
        """,
        {
            ("trail", "its link does not follow from the one before: the trail itself was changed here"),
            ("trail", "what it covers was changed"),
        },
    ),
    "a position was removed": (
        "delete from trail where position = 3",
        {("trail", "it is not there"), ("trail coverage", "it has no position")},
    ),
    "the first position was removed": (
        "delete from trail where position = 1",
        {("trail", "it is not there"), ("trail coverage", "it has no position")},
    ),
    "a position was added": (
        """
        insert into trail (position, audit_id, link, digest, sealed_at, source, through, form)
        select max(position) + 1, 1000, sha256('x'), sha256('y'), now(), 'audit_log', max(through), 1 from trail
        """,
        {
            ("trail", "its link does not follow from the one before: the trail itself was changed here"),
            ("trail", "what it covers is not there, or not all of it"),
        },
    ),
    "two positions were swapped": (
        """
        update trail a set audit_id = -b.audit_id from trail b
          where a.position in (2, 3) and b.position = 5 - a.position;
        update trail set audit_id = -audit_id where audit_id < 0
        """,
        {
            ("trail", "its link does not follow from the one before: the trail itself was changed here"),
            ("trail", "what it covers was changed"),
        },
    ),
    "rows are covered twice": (
        "update trail set row_ids = row_ids + '{[1,2)}' where source = 'stock_ledger' and not row_ids @> 1::bigint",
        {
            ("trail", "its link does not follow from the one before: the trail itself was changed here"),
            ("trail", "what it covers was changed"),
            ("trail coverage", "more than one position covers it"),
        },
    ),
    "rows are covered no more": (
        "update trail set row_ids = row_ids - '{[2,3)}' where source = 'stock_ledger' and row_ids @> 2::bigint",
        {
            ("trail", "its link does not follow from the one before: the trail itself was changed here"),
            ("trail", "what it covers was changed"),
            ("trail coverage", "no position covers it"),
        },
    ),
}


@pytest.fixture
async def books(settings: Settings, owner: asyncpg.Connection) -> asyncpg.Connection:
    """Six entries and six rows, sealed in two rounds; a connection without triggers and without unique ids."""
    await owner.execute("set session_replication_role = replica")
    async with sealing(settings, entries=3, rows=3) as sealer:
        for first in (1, 4):
            await owner.execute(ENTRY % (first, first + 2))
            await owner.execute(ROWS % (first, first + 2))
            await sealer.run()
    await seal_all(settings)
    return owner


async def found(settings: Settings) -> list[Finding]:
    return await verify(settings, PROOFS)


def faults(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.proof, row["fault"]) for finding in findings for row in finding.rows}


async def test_what_nobody_touched_holds_and_what_came_since_is_not_sealed_yet(
    settings: Settings, books: asyncpg.Connection
) -> None:
    await books.execute(ENTRY % (7, 9))
    await books.execute(ROWS % (7, 9))
    assert await found(settings) == []


async def test_each_way_to_falsify_the_past_is_found(settings: Settings, books: asyncpg.Connection) -> None:
    for name, (statements, expected) in TAMPERED.items():
        async with tampered(books, statements):
            assert faults(await found(settings)) == expected, name
    assert await found(settings) == []


async def test_a_change_is_named_with_its_position_and_nothing_after_it(
    settings: Settings, books: asyncpg.Connection
) -> None:
    await books.execute("update audit_log set reason = 'x' where id = 2")
    (finding,) = await found(settings)
    assert finding.rows == ({"position": 2, "covers": "audit_log 2", "fault": "what it covers was changed"},)


@contextlib.asynccontextmanager
async def tampered(books: asyncpg.Connection, statements: str) -> AsyncIterator[None]:
    for table in TABLES:
        await books.execute(f"create temporary table kept_{table} as table {table}")
    for statement in statements.split(";"):
        assert (await books.execute(statement)).split()[-1] != "0", statement
    yield
    for table in TABLES:
        await books.execute(f"delete from {table}")
        await books.execute(f"insert into {table} overriding system value table kept_{table}")
        await books.execute(f"drop table kept_{table}")


async def test_a_trail_that_was_cut_off_or_written_anew_is_found_by_a_head_that_was_kept(
    settings: Settings, books: asyncpg.Connection, tmp_path: Path
) -> None:
    early, late = [
        f"{position}:{link}"
        for position, link in await books.fetch(
            "select position, encode(link, 'hex') from trail where position in (2, 6) order by position"
        )
    ]
    (tmp_path / "heads").write_text(f"{early} 2026-01-31T12:00:00Z\n{late}\n\n")
    kept = head_proof([late, str(tmp_path / "heads")])
    assert await verify(settings, [kept]) == []

    async with tampered(books, "delete from trail where position > 4"):
        # a whole batch: as if it had not been sealed yet
        assert await found(settings) == []
        (finding,) = await verify(settings, [kept])
        assert finding.total == 2
        assert "cut off" in finding.rows[0]["fault"]

    async with tampered(books, "delete from audit_log where id = 4; delete from trail"):
        await seal_all(settings)
        # the owner has written a whole chain that holds
        assert await found(settings) == []
        (finding,) = await verify(settings, [kept])
        assert finding.total == 3
        assert {row["fault"].partition(":")[0] for row in finding.rows} == {"that position has another link"}


@pytest.mark.parametrize("text", ["", "7\n", "0:" + 64 * "a", "1:" + 63 * "a", "-1:" + 64 * "a", "1:" + 64 * "A"])
async def test_what_is_no_head_is_no_proof(settings: Settings, tmp_path: Path, text: str) -> None:
    (tmp_path / "heads").write_text(text)
    with pytest.raises(NoHead):
        await verify(settings, [head_proof([str(tmp_path / "heads")])])


async def test_administrators_read_the_chain_and_its_head(
    admin: UserClient, staff: UserClient, settings: Settings, books: asyncpg.Connection
) -> None:
    first = (await admin.get("/api/v1/audit/seals", params={"limit": "3"})).json()
    assert [seal["position"] for seal in first["items"]] == [8, 7, 6]
    assert first["items"][0]["covers"] == "{[4,7)}"
    second = await admin.get("/api/v1/audit/seals", params={"limit": "5", "cursor": first["next_cursor"]})
    assert [seal["position"] for seal in second.json()["items"]] == [5, 4, 3, 2, 1]
    head = (await admin.get("/api/v1/audit/seals/head")).json()
    assert head == {name: first["items"][0][name] for name in ("position", "link", "sealed_at")}
    assert await verify(settings, [head_proof([f"{head['position']}:{head['link']}"])]) == []
    for path in ("/api/v1/audit/seals", "/api/v1/audit/seals/head"):
        assert (await staff.get(path)).status_code == 403
    await books.execute("delete from trail")
    empty = (await admin.get("/api/v1/audit/seals/head")).json()
    assert empty == {"position": 0, "link": 64 * "0", "sealed_at": None}
