"""Packs, barcodes, external ids and columns of one's own in files of items and locations."""

import csv
import io
import json
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_service.decimals import Level
from erp_service.imports.csv_table import Table
from erp_service.imports.files.dialect import Dialect
from erp_service.imports.files.faults import Faults
from erp_service.imports.files.members import json_cell, metadata
from erp_service.imports.fingerprint import Fingerprint
from erp_service.imports.item_rows import LAYOUT, rows
from erp_service.inventory.schemas import CodeText, ItemBody, LocationBody, NameText, SkuText, UnitText
from erp_service.texts import nfc
from tests.imports.loading import Load, refused

PACKS = '"[{""unit"": ""case"", ""numerator"": 12, ""denominator"": 1}]"'


async def test_columns_that_are_not_known_become_metadata(load: Load, owner: asyncpg.Connection) -> None:
    """They were faults of the file."""
    await load("items", "sku,name,unit,supplier,Colour\nC-180,Mug,pcs,Acme,blue\nC-181,Bowl,pcs,,\n")
    assert [row[0] for row in await owner.fetch("select metadata::text from items order by id")] == [
        '{"Colour": "blue", "supplier": "Acme"}',
        "{}",
    ]
    await load("locations", "code,name,location_type,floor\nL,L,BIN,2\n")
    assert await owner.fetchval("select metadata::text from locations") == '{"floor": "2"}'


async def test_every_field_of_an_item_can_be_imported(load: Load, owner: asyncpg.Connection) -> None:
    header = "sku,name,unit,decimals,units,barcode,external_id,metadata,colour"
    content = f'{header}\nA,Mug,pcs,0,{PACKS},0012345678905,shop/1,"{{""size"": ""L""}}",blue\nB,Tea,kg,,,,,,\n'
    await load("items", content)
    a, b = await owner.fetch(
        "select decimals, units::text, barcode, external_id, metadata::text from items order by id"
    )
    packs = '[{"unit": "case", "numerator": 12, "denominator": 1}]'
    assert tuple(a) == (0, packs, "0012345678905", "shop/1", '{"size": "L", "colour": "blue"}')
    assert tuple(b) == (6, "[]", None, None, "{}")


BAD_ITEMS: dict[str, list[str]] = {
    "A,Mug,pcs,7,,,": ["line 2, decimals: Expected `int` <= 6"],
    "A,Mug,pcs,1.5,,,": ["line 2, decimals: is not a whole number from 0 to 6"],
    "A,Mug,pcs,-1,,,": ["line 2, decimals: is not a whole number from 0 to 6"],
    "A,Mug,pcs,٣,,,": ["line 2, decimals: is not a whole number from 0 to 6"],
    "A,Mug,pcs,,12,,": ["line 2, units: Expected `array`, got `int`"],
    "A,Mug,pcs,,case=12,,": ["line 2, units: is not JSON"],
    f"A,Mug,case,,{PACKS},,": ["line 2, units/0/unit: case is the item's own unit"],
    f"A,Mug,pcs,,{PACKS.replace('12', '0')},,": ["line 2, units/0/numerator: Expected `int` >= 1"],
    "A,Mug,pcs,,,4\u200b006,": ["line 2, barcode: has an invisible character (U+200B) at position 2"],
    "A,Mug,pcs,,,,shop\u00ad1": ["line 2, external_id: has an invisible character (U+00AD) at position 5"],
    "A,Mug,pcs,,,4 006,\nB,Bowl,pcs,,,4\u00a0006,\nC,Pot,pcs,,,4 006,": [
        "line 3, barcode: looks the same as what is on line 2",
        "line 3, barcode: has a blank other than the plain one (U+00A0) at position 2",
        "line 4, barcode: is the same as on line 2",
    ],
    "A,Mug,pcs,,,,X\nB,Bowl,pcs,,,,X": ["line 3, external_id: is the same as on line 2"],
    "A,Mug,pcs,,,4.00638E+12,": ["line 2, barcode: '4.00638E+12' looks like a large number that a spreadsheet has"],
}


@pytest.mark.parametrize("content", BAD_ITEMS)
async def test_every_bad_cell_is_named_by_its_line(load: Load, content: str) -> None:
    faults = await refused(load("items", f"sku,name,unit,decimals,units,barcode,external_id\n{content}\n"))
    assert [fault[: len(start)] for fault, start in zip(faults, BAD_ITEMS[content], strict=True)] == BAD_ITEMS[content]


async def test_a_barcode_that_an_item_has_is_refused_by_line_and_one_of_a_deleted_item_is_free(
    load: Load, owner: asyncpg.Connection
) -> None:
    await load("items", "sku,name,unit,barcode,external_id\nA,Mug,pcs,111,x1\nB,Bowl,pcs,222,x2\n")
    content = "sku,name,unit,barcode,external_id\nC,Pot,pcs,111,x2\nD,Jug,pcs,333,\nB,Bowl,pcs,,\n"
    assert await refused(load("items", content)) == [
        "line 2, barcode: '111' is that of the item 'A'",
        "line 2, external_id: 'x2' is that of the item 'B'",
        "line 4, sku: there is an item 'B' already, perhaps a deleted one",
    ]
    await owner.execute("update items set deleted_at = now()")
    assert (await load("items", "sku,name,unit,barcode,external_id\nC,Pot,pcs,111,x2\n")).rows == 1


async def test_an_external_id_that_a_location_has_is_refused_by_line(load: Load, owner: asyncpg.Connection) -> None:
    await load("locations", "code,name,location_type,external_id\nA,A,BIN,x1\nB,B,BIN,x2\n")
    assert await refused(load("locations", "code,name,location_type,external_id\nC,C,BIN,x1\nA,A,BIN,\n")) == [
        "line 2, external_id: 'x1' is that of the location 'A'",
        "line 3, code: there is a location 'A' already, perhaps a deleted one",
    ]
    again = await refused(load("locations", "code,name,location_type,external_id\nC,C,BIN,n\nD,D,BIN,n\n"))
    assert again == ["line 3, external_id: is the same as on line 2"]
    await owner.execute("update locations set deleted_at = now()")
    assert (await load("locations", "code,name,location_type,external_id\nC,C,BIN,x1\n")).rows == 1


async def test_a_column_whose_name_is_almost_a_known_one_is_kept_with_a_warning(load: Load) -> None:
    """Else a reorder point that is misspelt would vanish in the metadata."""
    loaded = await load("items", "sku,name,unit,Reorder point,bar code,supplier\nA,Mug,pcs,5,1,Acme\n")
    assert loaded.warnings == (
        "line 1, Reorder point: is kept as metadata, since it is not a column of such a file: reorder_point is one",
        "line 1, bar code: is kept as metadata, since it is not a column of such a file: barcode is one",
    )


async def test_the_same_content_is_known_whatever_the_order_of_its_members(load: Load) -> None:
    await load("items", "sku,name,unit,supplier,colour\nA,Mug,pcs,Acme,blue\n")
    for again in (
        "colour,sku,name,unit,supplier\nblue,A,Mug,pcs,Acme\n",
        'sku,name,unit,metadata\nA,Mug,pcs,"{""supplier"": ""Acme"", ""colour"": ""blue""}"\n',
        'sku,name,unit,colour,metadata,decimals\nA,Mug,pcs,blue,"{""supplier"":""\\u0041cme""}",6\n',
    ):
        (fault,) = await refused(load("items", again))
        assert fault.startswith("This content was imported already")


def test_files_that_an_earlier_version_imported_have_the_digest_that_it_kept() -> None:
    """Fields that came later, at their defaults, are no part of it."""
    item = Fingerprint()
    body = ItemBody(sku=SkuText("A"), name=NameText("Mug"), unit=UnitText("pcs"), reorder_point=Level(Decimal("2.5")))
    item.add_struct(body)
    assert item.hex() == "bb785ce16360e32a41993d7e1cbfe9486a57875983e50588d224875192bee7db"
    location = Fingerprint()
    location.add_struct(LocationBody(code=CodeText("L"), name=NameText("Lager"), location_type="BIN"), "MAIN")
    assert location.hex() == "80b9ffb7c006ea66774bc72b7e3af5f5376e63b328e708e9f5c4e0c667b1a88e"


def test_a_cell_with_json_holds_no_more_than_a_body_may() -> None:
    assert json_cell('{"cafe\\u0301": ["e\\u0301"]}') == {"caf\u00e9": ["\u00e9"]}
    for text, fault in (
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("'a'", "is not JSON"),
        ('{"a": "\\u0000"}', "must not contain NUL"),
    ):
        with pytest.raises(ValueError, match=fault):
            json_cell(text)
    assert metadata('{"a": "1"}', [(0, "a"), (1, "b"), (2, "c")], ["1", "2", ""]) == {"a": "1", "b": "2"}
    for cell, fault in (("[1]", "is not a JSON object"), ('{"a": "2"}', "has a member a, and the column a says")):
        with pytest.raises(ValueError, match=fault):
            metadata(cell, [(0, "a")], ["1"])


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20).map(nfc)
members = st.dictionaries(texts.filter(bool), texts, max_size=16)
ratios = st.integers(1, 10**9)
packs = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), ratios, ratios), max_size=8, unique_by=lambda pack: pack[0]
).map(lambda packs: [{"unit": unit, "numerator": n, "denominator": d} for unit, n, d in packs])


@given(metadata=members, units=packs, decimals=st.integers(0, 6))
def test_whatever_an_item_keeps_is_read_back_from_a_file_of_ours(
    metadata: dict[str, str], units: list[dict[str, Any]], decimals: int
) -> None:
    """As Postgres writes it: JSON in a cell, with every letter as it is but what JSON must escape."""
    cells = [json.dumps(cell, ensure_ascii=False) for cell in (units, metadata)]
    content = io.StringIO(newline="")
    csv.writer(content).writerows(
        [(*LAYOUT.required, "decimals", "units", "metadata"), ["A", "A", "pcs", decimals, *cells]]
    )
    faults = Faults()
    table = Table(io.BytesIO(content.getvalue().encode()), LAYOUT, faults)
    (row,) = rows(table, faults)
    assert (faults.total, row.body.decimals, row.body.metadata) == (0, decimals, metadata)
    assert msgspec.to_builtins(row.body.units) == units


async def test_codes_of_ones_own_are_kept_with_consent(load: Load, owner: asyncpg.Connection) -> None:
    loaded = await load("items", "sku,name,unit,barcode\nA,Mug,pcs,4.00638E+12\n", Dialect(keep_codes=True))
    assert loaded.warnings[0].startswith("line 2, barcode: '4.00638E+12' is taken as it is")
    assert await owner.fetchval("select barcode from items") == "4.00638E+12"
