"""Files for people: what a program in their language needs, and times of their zone."""

import csv
import io
import json
import zipfile
import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import openpyxl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from erp_service import errors
from erp_service.db.engine import Database
from erp_service.exports.formats.base import FileOptions, Times
from erp_service.exports.formats.csv_format import CSV
from erp_service.exports.formats.presets import options_for
from erp_service.exports.planning import planner
from erp_service.registry.datasets import Column
from tests.exports.data import fill
from tests.exports.formats.text_files import downloaded
from tests.exports.jobs import JOBS, done, row_of
from tests.support.clients import UserClient
from tests.support.workers import Work


@pytest.mark.parametrize(
    ("preset", "delimiter", "decimal_comma"),
    [
        ("excel", ",", False),
        ("excel-en", ",", False),
        ("excel-en-ZA", ";", True),
        ("excel-de", ";", True),
        ("excel-de-AT", ";", True),
        ("excel-de-CH", ";", False),
        ("excel-fr", ";", True),
        ("excel-es", ";", True),
        ("excel-es-MX", ",", False),
        ("excel-es-419", ",", False),
        ("excel-pt-BR", ";", True),
        ("excel-ja", ",", False),
    ],
)
def test_language_decides_separator_and_decimal_point(preset: str, delimiter: str, decimal_comma: bool) -> None:
    options = options_for(preset)
    assert (options.delimiter, options.decimal_comma) == (delimiter, decimal_comma)
    assert (options.bom, options.line_ending, options.formula_guard) == (True, "crlf", True)


async def test_csv_for_excel_is_what_it_opens(viewer: UserClient, owner: asyncpg.Connection, work: Work) -> None:
    await fill(owner, viewer.user_id, movements=3)
    columns = ["quantity", "occurred_at"]
    async with work():
        job = await done(viewer, "stock_movements", columns=columns, timezone="Europe/Berlin", **{"for": "excel-de"})
    file = await downloaded(viewer, job)
    # 23:59:59.000001 UTC in February and some hours
    assert file.startswith(b"\xef\xbb\xbfquantity;occurred_at\r\n-0,609375;2020-03-01 01:59:59\r\n")
    kept = json.loads((await row_of(owner, job["id"]))["spec"])
    assert kept["csv"] == {
        "delimiter": ";", "decimal_comma": True, "bom": True, "line_ending": "crlf", "formula_guard": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"for": "word"}, ["/for"]),
        ({"for": "excel-"}, ["/for"]),
        ({"for": "excel-xx"}, ["/for"]),
        ({"for": "excel", "csv": {"bom": True}}, ["/for"]),
        ({"for": "excel", "format": "jsonl"}, ["/for"]),
        ({"timezone": "right/Europe/Berlin"}, ["/timezone"]),
        ({"timezone": "localtime", "for": "excel-tlh"}, ["/for", "/timezone"]),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    viewer: httpx.AsyncClient, body: dict[str, Any], pointers: list[str]
) -> None:
    answer = await viewer.post(JOBS, json={"dataset": "items", **body})
    assert answer.status_code == 422
    assert sorted(fault["pointer"] for fault in answer.json()["errors"]) == pointers


async def test_zone_that_the_database_does_not_know_is_refused_at_submission(database: Database) -> None:
    """Python and Postgres have time zone data of their own, and an older one lacks new zones."""
    async with database.write() as db:
        with pytest.raises(errors.Invalid) as refused:
            await planner.require_zone(db, "Mars/Olympus")
        # the transaction is as it was
        await planner.require_zone(db, "Europe/Berlin")
    assert [fault.pointer for fault in refused.value.faults] == ["/timezone"]


EPOCH = datetime.fromtimestamp(0, UTC)
TIMES = {
    "2026-01-31 12:00:00.123456+00": "2026-01-31T13:00:00.123456+01:00",
    "2026-07-31 12:00:00+00": "2026-07-31T14:00:00.000000+02:00",
    "2026-10-25 00:30:00+00": "2026-10-25T02:30:00.000000+02:00",
    "2026-10-25 01:30:00+00": "2026-10-25T02:30:00.000000+01:00",
    # local mean time, which has seconds
    "1880-01-01 00:00:00+00": "1880-01-01T00:00:00.000000Z",
}


async def shown(owner: asyncpg.Connection, texts: list[str], times: Times) -> list[str]:
    select = CSV.select([Column("at", "timestamp", "value::timestamptz", "")], FileOptions(times=times))
    query = f"select {select} from unnest($1::text[]) with ordinality as given (value, place) order by place"
    return [row[0] for row in await owner.fetch(query, texts)]


async def test_times_in_another_zone_say_its_offset(owner: asyncpg.Connection) -> None:
    assert await shown(owner, list(TIMES), Times("Europe/Berlin")) == list(TIMES.values())
    assert await shown(owner, list(TIMES)[:1], Times("America/St_Johns")) == ["2026-01-31T08:30:00.123456-03:30"]
    assert await shown(owner, ["infinity"], Times("Europe/Berlin")) == await shown(owner, ["infinity"], Times())


async def test_plain_times_are_cut_to_the_second(owner: asyncpg.Connection) -> None:
    late = ["2025-12-31 22:59:59.999999+00"]
    assert await shown(owner, late, Times("Europe/Berlin", plain=True)) == ["2025-12-31 23:59:59"]


@examples(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    microseconds=st.lists(st.integers(-(10**15), 4 * 10**15), min_size=1, max_size=20),
    zone=st.sampled_from(["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Etc/GMT+12"]),
)
async def test_whatever_the_zone_the_time_is_the_same(
    owner: asyncpg.Connection, microseconds: list[int], zone: str
) -> None:
    """From 1938 to 2096."""
    stored = [EPOCH + timedelta(microseconds=microsecond) for microsecond in microseconds]
    texts = await shown(owner, [time.isoformat() for time in stored], Times(zone))
    assert [datetime.fromisoformat(text) for text in texts] == stored


async def test_sheet_and_archive_are_in_the_zone_of_the_request(
    viewer: UserClient, owner: asyncpg.Connection, work: Work
) -> None:
    await fill(owner, viewer.user_id, movements=1)
    name = "{dataset} {date}"
    async with work():
        sheet = await done(viewer, "stock_movements", format="xlsx", columns=["occurred_at"], timezone="Asia/Tokyo")
        archive = await done(viewer, "all", timezone="Pacific/Kiritimati", filename=name)
    book = openpyxl.load_workbook(io.BytesIO(await downloaded(viewer, sheet)))
    assert book.active is not None
    assert str(book.active["A2"].value) == "2020-03-01 09:59:59"
    files = zipfile.ZipFile(io.BytesIO(await downloaded(viewer, archive)))
    assert json.loads(files.read("manifest.json"))["timezone"] == "Pacific/Kiritimati"
    (movement,) = csv.DictReader(io.StringIO(files.read("stock_movements.csv").decode()))
    assert movement["occurred_at"] == "2020-03-01T14:59:59.000001+14:00"
    day = await owner.fetchval(
        "select to_char(snapshot_at at time zone 'Pacific/Kiritimati', 'YYYY-MM-DD') from export_jobs"
        " where id = $1::text::uuid",
        archive["id"],
    )
    assert archive["result"]["filename"] == f"all {day}.zip"


async def test_job_of_an_earlier_version_still_runs(viewer: UserClient, owner: asyncpg.Connection, work: Work) -> None:
    """Its spec knows nothing of zones, and its name is in UTC."""
    await fill(owner, viewer.user_id, movements=1)
    answer = await viewer.post(
        JOBS, json={"dataset": "stock_movements", "filename": "{date}", "timezone": "Asia/Tokyo"}
    )
    old = '{"columns": ["occurred_at"], "filter": {"from": "2020-01-01T00:00:00Z"}, "filename": "{date}"}'
    await owner.execute("update export_jobs set spec = $1", old)
    async with work():
        job = await done(viewer, "locations")
        job = (await viewer.get(answer.headers["Location"], headers={"Prefer": "wait=20"})).json()
    assert job["status"] == "succeeded"
    assert await downloaded(viewer, job) == b"occurred_at\n2020-03-01T00:59:59.000001Z\n"


async def test_zone_that_is_an_abbreviation_in_postgres_has_its_summer_time(owner: asyncpg.Connection) -> None:
    """Postgres has an abbreviation CET beside the zone of that name, and prefers it."""
    abbreviations = {row["abbrev"] for row in await owner.fetch("select abbrev from pg_timezone_abbrevs")}
    names = sorted(abbreviations & zoneinfo.available_timezones())
    assert {"CET", "EET", "MET", "WET"} <= set(names)
    instants = [datetime(year, month, 15, 12, tzinfo=UTC) for year in (2005, 2026) for month in range(1, 13)]
    for name in names:
        texts = await shown(owner, [instant.isoformat() for instant in instants], Times(name))
        zone = ZoneInfo(name)
        assert [datetime.fromisoformat(text).utcoffset() for text in texts] == [
            instant.astimezone(zone).utcoffset() for instant in instants
        ], name
