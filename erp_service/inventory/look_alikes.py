"""Skus and codes that could not be given today, since paper shows them like another: from before they were refused.

They are listed, and nothing is changed: which of two items is meant, and whether they are one, is for people to say."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import asyncpg

from erp_service.registry.proofs import MOST_ROWS, Finding, Judge, SlowProof
from erp_service.settings import Settings
from erp_service.texts import appearance, identifier_fault

WHAT_TO_DO = (
    "Give each of them a sku or code of its own (PUT /api/v1/inventory/items/{id} or /locations/{id}), or, if two are"
    " one thing, move the stock of one to the other and delete it. Until then both are kept apart, as they are now."
)

# what has a character outside ASCII, or blanks that are not single and inside
_SUSPECTS = """
select id, {word} from {table}
where deleted_at is null and {word} collate "C" !~ '^[!-~]+( [!-~]+)*$' order by id
"""
_OTHERS = "select id, {word} from {table} where deleted_at is null and {word} = any($1)"
_WORDS = (("item", "items", "sku"), ("location", "locations", "code"))


class LookAlike(NamedTuple):
    """An item or a location whose sku or code has a fault; `others` are the ids of those that look like it."""

    entity: str
    id: int
    text: str
    fault: str
    others: tuple[int, ...]

    def __str__(self) -> str:
        many = "s" if len(self.others) > 1 else ""
        others = f"; it looks like {self.entity}{many} {', '.join(map(str, self.others))}" if self.others else ""
        # escaped, since the difference is what nobody sees
        return f"{self.entity} {self.id}: {self.text!a} {self.fault}{others}"


async def find(db: asyncpg.Connection) -> list[LookAlike]:
    """All of them, items first, by id. Changes nothing."""
    return [look_alike for words in _WORDS for look_alike in await _of_table(db, *words)]


async def _of_table(db: asyncpg.Connection, entity: str, table: str, word: str) -> list[LookAlike]:
    suspects = await db.fetch(_SUSPECTS.format(table=table, word=word))
    faults = [(id_, text, fault) for id_, text in suspects if (fault := identifier_fault(text)) is not None]
    if not faults:
        return []
    alike: defaultdict[str, set[int]] = defaultdict(set)
    for id_, text, _ in faults:
        alike[appearance(text)].add(id_)
    for id_, text in await db.fetch(_OTHERS.format(table=table, word=word), list(alike)):
        alike[text].add(id_)
    return [
        LookAlike(entity, id_, text, fault, tuple(sorted(alike[appearance(text)] - {id_})))
        for id_, text, fault in faults
    ]


def report(look_alikes: list[LookAlike]) -> Iterator[str]:
    """Lines for a terminal: the first of them, how many there are, and what to do."""
    if look_alikes:
        yield f"Some skus or codes look like others, or hold what nobody sees; {len(look_alikes)} in all:"
        yield from (f"  {each}" for each in look_alikes[:MOST_ROWS])
        if len(look_alikes) > MOST_ROWS:
            yield f"  and {len(look_alikes) - MOST_ROWS} more; `erp verify` counts those that are left"
        yield WHAT_TO_DO


_NAME = "look-alikes"
_HOLDS = "no sku or code looks like another or holds what nobody sees"


async def prepare(db: asyncpg.Connection, _settings: Settings) -> Judge:
    """The proof of `erp verify`; a select could not say it, since Postgres does not know these properties."""
    found = await find(db)

    async def judge(_db: asyncpg.Connection) -> Finding | None:
        rows = tuple({"entity": each.entity, "id": each.id, "fault": str(each)} for each in found[:MOST_ROWS])
        return Finding(_NAME, f"{_HOLDS}. {WHAT_TO_DO}", rows, len(found)) if found else None

    return judge


PROOFS = (SlowProof(_NAME, _HOLDS, prepare),)
