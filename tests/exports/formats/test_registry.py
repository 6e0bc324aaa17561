"""The registry of formats: the catalogue's description of each, and an instance without the library of one."""

import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec

import asyncpg
import httpx
import pytest

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats import registry
from erp_service.exports.formats.base import FormatName
from erp_service.exports.formats.compression import COMPRESSIONS
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.exports.formats.registry import FORMATS
from tests.exports.jobs import JOBS, reaches, submitted
from tests.support.workers import Work

NEEDING = [name for name in FORMATS if FORMATS[name].needs]


def test_every_format_of_the_contract_is_known_by_its_name() -> None:
    assert set(FORMATS) == set(FormatName.__args__)  # type: ignore[attr-defined]
    for name, known in FORMATS.items():
        assert known.name == name
        assert registry.unavailable(known) is None
        assert set(registry.compressions(known)) == {"none", *(COMPRESSIONS if known.compressible else ())}


def test_select_lists_are_constants_in_one_line_that_no_parameter_is_looked_for_in() -> None:
    every = CsvOptions(delimiter=";", decimal_comma=True, null="NULL", formula_guard=True, line_ending="crlf")
    for known in FORMATS.values():
        for dataset in DATASETS.values():
            for options in (CsvOptions(), every):
                text = known.select(dataset.columns, options)
                assert "$" not in text
                assert "\n" not in text
                assert not known.copy(options).get("header"), "encoders write it, so that parts join"


def test_an_instance_loads_no_library_of_a_format_before_it_writes_it() -> None:
    """The libraries are heavy, and API instances do not need them."""
    program = (
        "import sys; from erp_service.exports.formats.registry import FORMATS, unavailable;"
        " print([unavailable(FORMATS[name]) for name in FORMATS], 'pyarrow' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said == "[None, None, None, None] False\n"


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def found(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in {known.needs for known in FORMATS.values()} else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", found)


async def test_instance_without_the_library_says_so_and_refuses_at_submission(
    without_libraries: None, viewer: httpx.AsyncClient
) -> None:
    assert NEEDING == ["parquet"]
    (items, *_) = (await viewer.get("/api/v1/exports/datasets")).json()["items"]
    assert items["formats"] == ["csv", "jsonl", "xlsx"]
    details = {known["name"]: known for known in items["format_details"]}
    assert "pip install 'erp-service[parquet]'" in details["parquet"]["unavailable"]
    assert details["csv"]["unavailable"] is None
    assert details["csv"]["compressions"] == ["none", "gzip", "zstd"]
    assert (details["xlsx"]["most_rows"], details["jsonl"]["most_rows"]) == (1_048_575, None)
    answer = await viewer.post(JOBS, json={"dataset": "items", "format": "parquet"})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "/format"
    assert "pyarrow is not installed here" in fault["detail"]


async def test_worker_without_the_library_fails_the_export_and_says_why(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, request: pytest.FixtureRequest
) -> None:
    export_id = await submitted(viewer, "items", format="parquet")
    request.getfixturevalue("without_libraries")
    async with work():
        job = await reaches(viewer, export_id, "failed", "succeeded")
    assert job["error"]["type"] == "/problems/export-format-unavailable"
    assert "pyarrow" in job["error"]["detail"]
    answer = await viewer.post(f"{JOBS}/{export_id}/retry")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/export-format-unavailable")
