"""No spreadsheet takes a part of a guarded CSV for a formula, by whichever separator it splits the file."""

import csv
import io
import json
import re
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from erp_service.exports.formats.csv_format import CSV
from erp_service.exports.formats.csv_options import CsvOptions, csv_option_faults
from erp_service.formulas import guarded, guarded_json_sql, guarded_sql
from erp_service.registry.datasets import Column
from tests.exports.formats.encoded import ABOUT, File

DATABASE = examples(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEPARATORS = [",", ";", "\t", "|"]
PIECES = [*",;\t|\n\r\v\u2028\"' \u00a0\ufeff=+-@＝＋－＠a1", "\r\n", "=1+2", "-5", "sep=", "SEP=;"]
hostile = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
SIGN = re.compile(r"[=+\-@＝＋－＠]")
NUMBER = re.compile(r"-[0-9.]+")


def cells_of(file: str, separator: str) -> list[str]:
    """What a program finds that splits by this separator, with quotes understood and without."""
    understood = csv.reader(io.StringIO(file, newline=""), delimiter=separator)
    plain = re.split(f"[{separator}\n\r]", file)
    return [*(cell for row in understood for cell in row), *plain]


def is_formula(cell: str) -> bool:
    """As the most careless program would see it, which drops blanks and quotes first."""
    return SIGN.match(cell.strip('\ufeff\u00a0 \t\r\n\v\u2028"')) is not None


@given(hostile)
@example("a;=1+2;b")
@example("a\n=1+2")
@example('x;"=1+2"')
@example("\t=1")
@example("a; \u00a0＝1")
def test_no_separator_makes_a_formula_of_a_part_of_a_text(text: str) -> None:
    for separator in SEPARATORS:
        assert not any(map(is_formula, cells_of(guarded(text), separator)))
    assert guarded(text).replace("'", "") == text.replace("'", "")


@pytest.mark.parametrize("text", ["", "plain", "a-b", "a = b", "1;2", "M8 x 20; zinc", "'=1", "x,y", "O'Neill"])
def test_what_is_no_formula_stays_as_it_is(text: str) -> None:
    assert guarded(text) == text


def test_instruction_for_excel_to_split_at_another_character_is_none() -> None:
    assert guarded("sep=-") == "'sep=-"


def test_long_texts_take_time_in_proportion() -> None:
    """A hundred thousand of each would take minutes if every one were compared with all that follow."""
    for piece in (" ", "\t", ";", "; ", '"', ";\n"):
        assert len(guarded(piece * 100_000)) <= len(piece) * 100_000 + 1


async def in_postgres(owner: asyncpg.Connection, expression: str, texts: list[str], of: str) -> list[Any]:
    query = f"select {expression} from unnest($1::text[]) with ordinality as given (value, place) order by place"
    return [row[0] for row in await owner.fetch(query.replace("value)", f"value)::{of}", 1), texts)]


@DATABASE
@given(texts=st.lists(hostile, min_size=1, max_size=20))
async def test_postgres_guards_like_the_reports(owner: asyncpg.Connection, texts: list[str]) -> None:
    assert await in_postgres(owner, guarded_sql("value"), texts, "text") == list(map(guarded, texts))


values = st.recursive(
    hostile | st.integers(-99, 99) | st.decimals(-9, 9, places=2).map(float),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile, inner, max_size=3),
    max_leaves=6,
)


@DATABASE
@given(given_values=st.lists(values, min_size=1, max_size=10))
@example([{"note": "a;=1+2;b"}])
@example([{"a": 1, "=cmd": -2.5, "list": [1, -5, -1]}, "a;-5, -5+cmd|x", -5])
async def test_json_is_guarded_and_keeps_its_value(owner: asyncpg.Connection, given_values: list[Any]) -> None:
    source = "unnest($1::text[]) with ordinality as given (value, place)"
    query = f"select {guarded_json_sql('(value::jsonb)::text')} from {source} order by place"
    rows = await owner.fetch(query, [json.dumps(value) for value in given_values])
    for (text,), value in zip(rows, given_values, strict=True):
        assert json.loads(text) == value
        file = '"' + text.replace('"', '""') + '"'
        for separator in SEPARATORS:
            found = [cell.strip(' "') for cell in cells_of(file, separator)]
            assert not any(is_formula(cell) and not NUMBER.match(cell) for cell in found), (text, separator)
            # a number ends with the brackets of its JSON, or with the cell
            assert not any(re.match(r"-[0-9.]+[^0-9.\]},\" ]", cell) for cell in found), (text, separator)


ROW = "a;=1+2;b\n=cmd"


@pytest.mark.parametrize("separator", SEPARATORS)
async def test_formula_after_another_separator_is_guarded_in_a_file(owner: asyncpg.Connection, separator: str) -> None:
    """`a;=1+2;b` in a file with commas is a formula where semicolons are usual."""
    columns = [
        Column("name", "text", "$1::text", ""),
        Column("quantity", "decimal", "-2.50::numeric", ""),
        Column("data", "json", "jsonb_build_object('note', $1::text)", ""),
    ]
    options = CsvOptions(formula_guard=True, delimiter=",")
    file = File()
    encoder = CSV.encoder(columns, options, file.write, ABOUT)
    await encoder.begin()
    query = f"select {CSV.select(columns, options)}"
    await owner.copy_from_query(query, ROW, output=encoder.write, **CSV.copy(options))
    await encoder.finish(1)
    text = file.content.decode()
    assert not any(is_formula(cell) and not NUMBER.fullmatch(cell) for cell in cells_of(text, separator))
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row == {"name": "a;'=1+2;b\n'=cmd", "quantity": "-2.5", "data": row["data"]}
    assert json.loads(row["data"]) == {"note": ROW}


def test_text_for_null_is_no_formula_after_a_separator_either() -> None:
    assert [fault.pointer for fault in csv_option_faults(CsvOptions(null="n;=a", formula_guard=True))] == ["/csv/null"]
    assert list(csv_option_faults(CsvOptions(null="n;=a"))) == []
