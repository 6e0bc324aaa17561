"""The proofs behind `erp verify`: what must hold of the books at every instant, asked of one snapshot of them.

Each proof is one statement that selects the rows at fault. That the database refuses most such rows by itself is no
reason not to look: a restored backup, a lifted trigger or a fault of ours would show here.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from erp_service.connections import connect
from erp_service.exports.models import Status
from erp_service.exports.storage.base import Key, Missing, Store
from erp_service.exports.storage.registry import open_store
from erp_service.settings import Settings

MOST_ROWS = 20
"""Rows at fault that a finding shows; it counts all of them."""


class Check(msgspec.Struct, frozen=True):
    """`rows` selects what is at fault, and nothing else; `holds` says what then does not hold."""

    name: str
    holds: str
    rows: str


class Finding(msgspec.Struct, frozen=True):
    """What does not hold: the first rows at fault, by column, and how many there are."""

    check: str
    holds: str
    rows: tuple[dict[str, Any], ...]
    total: int

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.check}: it does not hold that {self.holds}; {self.total} at fault:"
        for row in self.rows:
            yield "  " + ", ".join(f"{column} {value}" for column, value in row.items())
        if self.total > len(self.rows):
            yield f"  and {self.total - len(self.rows)} more"


CHECKS = (
    Check(
        "balances",
        "what is on hand, and its value, are the sums of the ledger",
        """
        select item_id, location_id, b.on_hand, l.quantity as ledger_quantity, b.value, l.value as ledger_value
        from stock_balances b full join (
          select item_id, location_id, sum(quantity) as quantity, sum(value) as value
          from stock_ledger group by item_id, location_id
        ) l using (item_id, location_id)
        where b.on_hand is distinct from coalesce(l.quantity, 0) or b.value is distinct from coalesce(l.value, 0)
        """,
    ),
    Check(
        "chain",
        "each entry goes on from where the one before it, of the same item at the same place, ended",
        """
        select id, item_id, location_id, on_hand_before, quantity, on_hand_after, value_before, value, value_after
        from (
          select id, item_id, location_id, quantity, value, on_hand_after, value_after,
            coalesce(lag(on_hand_after) over place, 0) as on_hand_before,
            coalesce(lag(value_after) over place, 0) as value_before
          from stock_ledger window place as (partition by item_id, location_id order by id)
        ) e
        where on_hand_after <> on_hand_before + quantity or value_after <> value_before + value
        """,
    ),
    Check(
        "transfers",
        "what the transfers of a document take of an item they also bring, in quantity and value",
        """
        select transaction_id, item_id, sum(quantity) as quantity, sum(value) as value
        from stock_ledger where entry_type in ('TRANSFER_IN', 'TRANSFER_OUT')
        group by transaction_id, item_id having sum(quantity) <> 0 or sum(value) <> 0
        """,
    ),
    Check(
        "negative stock",
        "stock is below zero only where the location allows it",
        """
        select item_id, location_id, on_hand
        from stock_balances b join locations l on l.id = b.location_id
        where on_hand < 0 and not l.allow_negative_stock
        """,
    ),
    Check(
        "empty places",
        "nothing on hand is worth nothing",
        "select item_id, location_id, on_hand, value from stock_balances where on_hand = 0 and value <> 0",
    ),
    Check(
        "flags",
        "balances know whether their location allows negative stock",
        """
        select item_id, location_id, allows_negative, l.allow_negative_stock
        from stock_balances b join locations l on l.id = b.location_id
        where b.allows_negative <> l.allow_negative_stock
        """,
    ),
)

_STORE = "select database_id || '/' || store_id from export_store"
_FILES = """
select id, file_key, result_bytes, sha256 from export_jobs
where status = $1 and expires_at > now() and file_key is not null order by id
"""
_STILL = "select exists (select from export_jobs where id = $1 and status = $2 and expires_at > now())"


class ExportFile(msgspec.Struct, frozen=True):
    """A file that clients may download now, as the database describes it."""

    job_id: UUID
    file_key: str
    bytes: int
    sha256: str


async def verify(settings: Settings, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """All that does not hold, in the order of the checks; nothing if the books are right. Changes nothing.

    Raises OSError or asyncpg's errors when the database does not answer, SettingsError for a store of no known kind."""
    store = open_store(settings)
    db = await connect(settings.listen_url, name="erp verify", statement_timeout="0", lock_timeout="0")
    try:
        async with db.transaction(isolation="repeatable_read", readonly=True):
            findings = [finding for check in checks if (finding := await _prove(db, check))]
            identity = await db.fetchval(_STORE)
            files = [ExportFile(*row) for row in await db.fetch(_FILES, Status.SUCCEEDED)]
        # after the snapshot, which must not be held open while many gigabytes are read
        if files and (finding := await _prove_files(db, store, identity, files)):
            findings.append(finding)
    finally:
        await store.close()
        await db.close()
    return findings


async def _prove(db: asyncpg.Connection, check: Check) -> Finding | None:
    counted = f"select *, count(*) over () as total_ from ({check.rows}) at_fault limit {MOST_ROWS}"  # noqa: S608
    rows = [dict(row) for row in await db.fetch(counted)]
    if not rows:
        return None
    total = max(row.pop("total_") for row in rows)
    return Finding(check.name, check.holds, tuple(rows), total)


async def _prove_files(
    db: asyncpg.Connection, store: Store, identity: str | None, files: list[ExportFile]
) -> Finding | None:
    holds = "the store holds each export's file as it was published"
    wrong: list[dict[str, Any]] = []
    total = 0
    try:
        if (found := await store.identity()) != identity:
            stranger = {"store": found, "expected": identity}
            return Finding("export files", "the export store is the one the database knows", (stranger,), len(files))
        for file in files:
            fault = await _fault(store, file)
            # what has expired or was deleted meanwhile may be gone
            if fault and await db.fetchval(_STILL, file.job_id, Status.SUCCEEDED):
                total += 1
                if total <= MOST_ROWS:
                    wrong.append({"export": file.job_id, "file": file.file_key, "fault": fault})
    except OSError as exc:
        away = {"fault": exc.strerror or str(exc)}
        return Finding("export files", "the export store can be read", (away,), len(files))
    return Finding("export files", holds, tuple(wrong), total) if total else None


async def _fault(store: Store, file: ExportFile) -> str | None:
    if (key := Key.read(file.file_key)) is None:
        return "its name is none of an export"
    if (size := await store.size(key)) is None:
        return "it is not there"
    if size != file.bytes:
        return f"it has {size} bytes instead of {file.bytes}"
    digest = hashlib.sha256()
    try:
        async for piece in store.read(key, 0, file.bytes):
            digest.update(piece)
    except Missing:
        return "it is not there"
    return None if digest.hexdigest() == file.sha256 else f"its sha256 is {digest.hexdigest()}, not {file.sha256}"
