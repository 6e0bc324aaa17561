"""The page of benchmarks, from runs that are stored: nothing is measured here."""

from math import isclose
from pathlib import Path

import msgspec
import pytest

from tests.bench import page, records
from tests.bench.aims import AIMS, Aim, Measure
from tests.bench.page import STORY, render, stored_runs
from tests.bench.records import Key, Run, Series

QUICK = Path(__file__).with_name("a_quick_run.json")
OPS = Path(__file__).parents[2] / "ops"


@pytest.fixture
def run() -> Run:
    return records.load(QUICK)


@pytest.mark.parametrize("aim", AIMS, ids=lambda aim: aim.what)
def test_each_aim_refers_to_figures_that_a_run_has(aim: Aim, run: Run) -> None:
    assert [key for measure in aim.measures for key in measure if key is not None and not run.values(key)] == []


def test_the_page_shows_every_series_and_every_aim(run: Run) -> None:
    text = render([run], "## The story\n\nas people wrote it")
    assert "as people wrote it" in text
    assert [series.key.what for series in run.series if f"| {series.key.what} |" not in text] == []
    assert [aim.what for aim in AIMS if f"| {aim.what} | {aim.text} |" not in text] == []
    assert "| not measured" not in text


def test_each_run_has_a_column_among_the_aims_and_its_machine_below(run: Run) -> None:
    later = msgspec.structs.replace(run, began=run.began.replace(year=run.began.year + 1))
    head = next(line for line in render([run, later], "").splitlines() if line.startswith("| what | aim |"))
    assert head.count(f"{run.began:%m-%d %H:%M}") == 2


def test_what_could_not_be_measured_is_said_and_has_no_verdict(run: Run) -> None:
    part = AIMS[0].measures[0].figure.part
    without = msgspec.structs.replace(
        run, series=[series for series in run.series if series.key.part != part], missing=[f"{part}: no wrk"]
    )
    text = render([without], "")
    assert f"- {part}: no wrk" in text
    assert f"| {AIMS[0].what} | {AIMS[0].text} | not measured |" in text


def test_an_aim_is_judged_by_the_worst_of_its_ratios_round_by_round(run: Run) -> None:
    keys = [Key("part", "work", way, "ms") for way in ("first", "second", "third")]
    values = ([10.0, 20.0, 40.0], [11.0, 22.0, 44.0], [10.0, 30.0, 80.0])
    two = msgspec.structs.replace(run, series=[Series(key, list(v)) for key, v in zip(keys, values, strict=True)])
    aim = Aim("growth", False, 1.2, "", [Measure(key, keys[0]) for key in keys[1:]])
    figure = aim.figure_in(two)
    assert figure is not None
    assert isclose(figure, 1.5)
    assert not aim.met_by(figure)


def test_runs_are_stored_and_read_back_oldest_first(run: Run, tmp_path: Path) -> None:
    later = msgspec.structs.replace(run, began=run.began.replace(year=run.began.year + 1))
    for one in (later, run):
        records.store(one, tmp_path)
    assert stored_runs(tmp_path) == [run, later]


def test_the_runs_that_are_committed_can_be_shown_and_name_no_place() -> None:
    story = (OPS / "benchmarks" / STORY).read_text()
    if runs := stored_runs(OPS / "benchmarks"):
        text = page.render(runs, story)
        assert (OPS / "benchmarks.md").read_text() == text
        assert [word for word in ("/tmp/", "/home/", "/root/") if word in text] == []
