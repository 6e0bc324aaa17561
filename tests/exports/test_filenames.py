"""File names: each template gives one plain name on every system, or all of its faults are reported."""

import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from erp_service.exports.delivery.http_range import disposition
from erp_service.exports.filenames import MOST_BYTES, PLACEHOLDERS, FilenameValues, filename_faults, fill_in

AT = datetime(2026, 11, 23, 8, 5, 9, 999_999, tzinfo=UTC)
ID = UUID("01937d2c-0000-7000-8000-0123456789ab")
EXTENSIONS = ["csv", "csv.gz", "jsonl.zst", "xlsx", "parquet", "zip"]


def name(template: str | None, extension: str = "csv") -> str:
    return fill_in(template, FilenameValues("items", "csv", extension, AT, ID))


def wrong(template: str) -> list[str]:
    return list(filename_faults(template, dataset="items", format_="csv", extension="csv"))


def test_every_placeholder_is_filled_in() -> None:
    assert name("{dataset}_{date}_{time}_{snapshot}_{id}_{format}.{ext}") == (
        "items_2026-11-23_080509_20261123T080509Z_456789ab_csv.csv"
    )
    assert set(PLACEHOLDERS) == {"dataset", "date", "time", "snapshot", "id", "format", "ext"}


def test_without_a_template_it_is_the_dataset_and_the_instant() -> None:
    assert name(None, "csv.gz") == "items-20261123T080509Z.csv.gz"


def test_instant_is_given_in_utc_whatever_zone_it_comes_in() -> None:
    there = AT.astimezone(timezone(timedelta(hours=13)))
    assert fill_in("{date} {time}", FilenameValues("items", "csv", "csv", there, ID)) == "2026-11-23 080509.csv"


@pytest.mark.parametrize("template", ["report", "report.csv", "report.CSV", "report.{ext}", "report.csv.gz"])
def test_extension_is_the_files_own_and_stands_there_once(template: str) -> None:
    assert name(template, "csv.gz") == "report.csv.gz"
    assert not wrong(template)


def test_extension_of_another_format_does_not_pass_for_this_one() -> None:
    assert name("report.xlsx") == "report.xlsx.csv"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{customer}.csv", "unknown placeholder {customer}"),
        ("{dataset", "brace"),
        ("dataset}", "brace"),
        ("{{dataset}}", "brace"),
        ("{}", "unknown placeholder {}"),
        ("../{dataset}", "must not contain /"),
        ("..\\{dataset}", "must not contain \\"),
        ("/etc/passwd", "must not contain /"),
        ("c:report", "must not contain :"),
        ('"; filename=x', 'must not contain "'),
        ("a*?<>|b", "must not contain * < > ? |"),
        ("..", "must not begin"),
        (".bashrc", "must not begin"),
        (".csv", "must not begin"),
        ("-rf", "must not begin"),
        ("~root", "must not begin"),
        (" report", "must not begin"),
        ("line\r\nSet-Cookie: a=b", "invisible"),
        ("nul\x00", "invisible"),
        ("delete\x7f", "invisible"),
        ("report\u202evsc.exe", "invisible"),  # is displayed as: report exe.csv
        ("report\u2066x", "invisible"),
        ("zero\u200bwidth", "invisible"),
        ("\ufeffreport", "invisible"),
        ("two\u2028lines", "invisible"),
        ("tag\U000e0041", "invisible"),
        ("con", "device"),
        ("NUL.{ext}", "device"),
        ("Com1.report", "device"),
        ("lpt² .x", "device"),
        ("conout$", "device"),
        ("x" * 197, "201 bytes"),
        ("木" * 66, "202 bytes"),
    ],
)
def test_template_that_would_make_a_bad_name_is_refused_in_words(template: str, said: str) -> None:
    assert any(said in fault for fault in wrong(template)), wrong(template)


def test_every_fault_of_a_template_is_named_at_once() -> None:
    assert len(wrong("/{a}/{b}\n}")) == 5
    assert len(wrong(".\n" + "x" * 200)) == 3


@pytest.mark.parametrize(
    "template", ["Bestände März 木", "👩‍🔧 {date}", "می‌خواهم", "100% (a+b) #1 & 'c'", "console", "com10"]
)
def test_names_of_every_language_are_taken(template: str) -> None:
    assert not wrong(template)
    assert name(template).startswith(template.partition("{")[0])


def test_composed_and_decomposed_letters_make_the_same_name() -> None:
    assert name("Bu\u0308ro") == name("B\u00fcro") == "B\u00fcro.csv"


# the characters that matter here are drawn far more often than in all of Unicode
_TEMPLATES = st.lists(
    st.one_of(
        st.sampled_from([*("{" + name + "}" for name in PLACEHOLDERS), *"{}./\\ -~\u202e\u200d\n", "con", "csv", "木"]),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=70,
).map("".join)


@given(template=_TEMPLATES, extension=st.sampled_from(EXTENSIONS), dataset=st.sampled_from(["items", "audit_log"]))
@example(template="", extension="csv", dataset="items")
@example(template="{ext}", extension="csv.gz", dataset="items")
def test_whatever_passes_makes_one_plain_name(template: str, extension: str, dataset: str) -> None:
    if list(filename_faults(template, dataset=dataset, format_="csv", extension=extension)):
        return
    made = fill_in(template, FilenameValues(dataset, "csv", extension, AT, ID))
    assert made.endswith(f".{extension}")
    assert not set(made) & set('/\\:*?"<>|')
    assert not [c for c in made if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs")]
    assert not set(made) & {chr(n) for n in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x61C)}
    assert made[0] not in ".-~ "
    assert len(made.encode()) <= MOST_BYTES
    assert made.split(".")[0].strip().lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
    header = disposition(made)
    assert header.isascii()
    assert "\n" not in header
    assert header.count('"') == 2


@given(later=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=2_900_000)), export_id=st.uuids())
def test_name_is_as_long_at_any_time_so_that_what_was_checked_still_holds(later: timedelta, export_id: UUID) -> None:
    template = "-".join("{" + name + "}" for name in PLACEHOLDERS)
    made = fill_in(template, FilenameValues("items", "csv", "csv", AT + later, export_id))
    assert len(made) == len(name(template))
    assert made.isascii()


@pytest.mark.parametrize(
    ("zone", "made"), [("UTC", "2026-11-23 080509"), ("Pacific/Auckland", "2026-11-23 210509"),
                       ("Pacific/Kiritimati", "2026-11-23 220509"), ("Pacific/Honolulu", "2026-11-22 220509")]
)  # fmt: skip
def test_date_and_time_are_those_of_the_zone_and_the_snapshot_stays_in_utc(zone: str, made: str) -> None:
    values = FilenameValues("items", "csv", "csv", AT, ID, zone)
    assert fill_in("{date} {time}", values) == f"{made}.csv"
    assert fill_in("{snapshot}", values) == "20261123T080509Z.csv"


@pytest.mark.parametrize(
    ("filename", "plain"),
    [
        ("Bestände für März.csv", "Bestande_fur_Marz.csv"),
        ("Straße.csv", "Strasse.csv"),
        ("naïve café – déjà vu.csv", "naive_cafe_-_deja_vu.csv"),
        ("Žluťoučký kůň.xlsx", "Zlutoucky_kun.xlsx"),
        ("Łódź.csv", "Lodz.csv"),
        ("Smørrebrød.csv", "Smorrebrod.csv"),
        ("İstanbul ılık.csv", "Istanbul_ilik.csv"),
        ("ﬁle №1.csv", "file_No1.csv"),
        ("在庫.csv", "__.csv"),
        ("Ångström e\u0301.csv", "Angstrom_e.csv"),
    ],
)
def test_accents_are_dropped_in_the_name_for_old_clients(filename: str, plain: str) -> None:
    """`Best_nde f_r M_rz.csv` is no name that anybody would give."""
    assert f'filename="{plain}"' in disposition(filename)
