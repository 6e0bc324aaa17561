"""The migrations are read without Alembic, with the same result; anything but a single chain is refused."""

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st

from erp_service.db import revisions

Pair = tuple[str, str | None]

_IDS = st.sampled_from("abcd")
_PAIRS = st.lists(st.tuples(_IDS, st.none() | _IDS), max_size=5)
_CHAINS = st.permutations("abcd").flatmap(lambda ids: st.permutations(list(zip(ids, [None, *ids], strict=False))))


def written(directory: Path, pairs: Sequence[Pair]) -> Path:
    for number, (revision, before) in enumerate(pairs):
        text = f'"""A migration."""\n\nrevision = {revision!r}\ndown_revision = {before!r}\n'
        (directory / f"{number:04}_any.py").write_text(text)
    return directory


def is_chain(pairs: Sequence[Pair]) -> bool:
    """By trying every order."""
    ids = [revision for revision, _ in pairs]
    orders = itertools.permutations(pairs)
    return len(set(ids)) == len(ids) > 0 and any(
        [before for _, before in order] == [None, *(revision for revision, _ in order[:-1])] for order in orders
    )


def test_alembic_says_the_same() -> None:
    scripts = ScriptDirectory(str(revisions.DIRECTORY))
    ours = revisions.ours()
    assert ours.head == scripts.get_current_head()
    assert ours.known == {script.revision for script in scripts.walk_revisions()}


def test_a_later_release_has_one_more(tmp_path: Path) -> None:
    later = shutil.copytree(revisions.DIRECTORY, tmp_path / "migrations")
    ours = revisions.ours()
    text = f'from alembic import op\n\nrevision: str = "9999"\ndown_revision: str | None = "{ours.head}"\n'
    (later / "versions" / "0000_next.py").write_text(text)
    assert revisions.read(later / "versions") == ("9999", ours.known | {"9999"})
    assert ScriptDirectory(str(later)).get_current_head() == "9999"


@given(_PAIRS | _CHAINS)
def test_one_chain_is_read_in_whatever_order_its_files_are_and_nothing_else_is(pairs: list[Pair]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        versions = written(Path(directory), pairs)
        if not is_chain(pairs):
            with pytest.raises(ValueError, match="migrations"):
                revisions.read(versions)
            return
        read = revisions.read(versions)
    assert read.known == {revision for revision, _ in pairs}
    assert read.known - {before for _, before in pairs} == {read.head}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "revision = 'a'",
        "down_revision = None",
        "revision = 1\ndown_revision = None",
        "revision = 'a' + 'b'\ndown_revision = None",
        "revision = 'a'\ndown_revision = ('b', 'c')",
        "if True:\n    revision = 'a'\n    down_revision = None",
    ],
)
def test_a_file_that_does_not_say_plainly_what_it_is_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "0001_odd.py").write_text(text)
    with pytest.raises(ValueError, match=r"0001_odd\.py does not say"):
        revisions.read(tmp_path)
