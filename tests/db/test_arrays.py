"""Arrays as text mean to Postgres what they are."""

from decimal import Decimal

import asyncpg

from erp_service.db.statements import number_array, text_array

TEXTS = [
    "",
    " ",
    "NULL",
    "null",
    "a,b",
    "{}",
    "{a}",
    '"',
    "\\",
    '\\"',
    "'",
    "a\nb\t",
    "\u00e9\u1e69\U0001f600",
    " x ",
    "%s :n $1",
]


async def test_every_text_arrives_as_it_is(owner: asyncpg.Connection) -> None:
    values = [*TEXTS, None, *TEXTS[::-1]]
    assert await owner.fetchval("select cast(cast($1 as text) as text[])", text_array(values)) == values
    for value in (*TEXTS, None):
        assert await owner.fetchval("select cast(cast($1 as text) as text[])", text_array([value])) == [value]
    assert await owner.fetchval("select cast(cast($1 as text) as text[])", text_array([])) == []


async def test_numbers_arrive_exactly(owner: asyncpg.Connection) -> None:
    numbers = [Decimal("-0.000001"), None, Decimal("999999999999.999999"), Decimal("1E+3"), Decimal("1E-10")]
    assert await owner.fetchval("select cast(cast($1 as text) as numeric[])", number_array(numbers)) == numbers
    assert await owner.fetchval("select cast(cast($1 as text) as bigint[])", number_array([2**62, None])) == [
        2**62,
        None,
    ]
