"""CSV of reports: the bytes of COPY, except for cells that a spreadsheet would run as formulas."""

import csv
import io
from datetime import date
from decimal import Decimal

import asyncpg
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erp_service.formulas import FORMULA_STARTS, guarded
from erp_service.reports import cells


class Row(msgspec.Struct):
    text: str | None
    other: str | None
    number: Decimal | None
    day: date | None
    count: int


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.text(
    ',"\r\n\\. ab', max_size=6
)
plain = texts.filter(lambda text: guarded(text) == text)
numbers = st.decimals(-(10**9), 10**9, places=6, allow_nan=False)
# the only one of Postgres's styles that writes years before 1000 with leading zeros
# asyncpg writes the first and the last date that Python has as -infinity and infinity
days = st.dates(date(1, 1, 2), date(9999, 12, 30))
rows = st.builds(Row, st.none() | plain, st.none() | plain, st.none() | numbers, st.none() | days, st.integers(0, 9))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_rows=st.lists(rows, max_size=4))
async def test_it_is_what_copy_writes(owner: asyncpg.Connection, given_rows: list[Row]) -> None:
    copied = io.BytesIO()
    columns = [[getattr(row, name) for row in given_rows] for name in Row.__struct_fields__]
    async with owner.transaction():
        await owner.execute(
            "create temp table given (text text, other text, number numeric, day date, count integer) on commit drop"
        )
        await owner.copy_records_to_table("given", records=list(zip(*columns, strict=True)))
        await owner.copy_from_query(
            "select text, other, trim_scale(number) number, day, count from given",
            output=copied,
            format="csv",
            header=True,
            encoding="UTF8",
        )
    assert "".join(cells.csv(Row, given_rows)).encode() == copied.getvalue()


@given(texts)
def test_no_text_can_be_taken_for_a_formula_and_none_is_lost(text: str) -> None:
    written = "".join(cells.csv(Row, [Row(text, None, Decimal("-2.50"), None, -1)]))
    (row,) = csv.DictReader(io.StringIO(written, newline=""))
    assert row["text"].replace("'", "") == text.replace("'", "")
    assert not row["text"].startswith(tuple(FORMULA_STARTS))
    assert (row["number"], row["count"]) == ("-2.5", "-1"), "numbers are numbers"


def test_formula_after_another_separator_is_guarded_in_a_report() -> None:
    """`a;=1+2;b` in a file with commas is a formula where semicolons are usual."""
    written = "".join(cells.csv(Row, [Row("a;=1+2;b\n+3", None, Decimal("-2.50"), None, -1)]))
    assert written.endswith("\n\"a;'=1+2;b\n'+3\",,-2.5,,-1\n")
