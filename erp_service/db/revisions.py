"""The migrations that this code knows, and whether a database has had them: read without Alembic.

Alembic costs a process a third of a second before it does anything, which only who migrates has to pay."""

import ast
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from erp_service.db.sessions import ReadSession

_HERE = Path(__file__).parents[1]
_INSIDE = _HERE / "migrations"

DIRECTORY = _INSIDE if _INSIDE.is_dir() else _HERE.parent / "migrations"
"""In an installed wheel the migrations lie inside the package, in a checkout beside it."""


class Revisions(NamedTuple):
    """`head` is the last of them, which the code needs."""

    head: str
    known: frozenset[str]


async def behind(db: ReadSession) -> str | None:
    """Why this code cannot run on the database, or None. A database that is ahead is fine: it was expanded first."""
    head, known = ours()
    try:
        present = await db.scalar(text("select version_num from alembic_version"))
    except ProgrammingError:
        present = None
    if present is None:
        return "The database is empty: run `erp migrate`."
    if present in known and present != head:
        return f"The database is at migration {present} and this code needs {head}: run `erp migrate`."
    return None


@cache
def ours() -> Revisions:
    """Those that this code comes with."""
    return read(DIRECTORY / "versions")


def read(directory: Path) -> Revisions:
    """What `revision` and `down_revision` of the files say.

    Raises ValueError unless they say it as plain text, and together one chain from the first to the last: Alembic
    knows branches too, of which this service has none."""
    following: dict[str | None, str] = {}
    for path in sorted(directory.glob("*.py")):
        revision, before = _said(path)
        if before in following:
            raise ValueError(f"Two migrations come after {before}: {following[before]} and {revision}.")
        following[before] = revision
    chain: list[str] = []
    at: str | None = None
    while (at := following.pop(at, None)) is not None:
        chain.append(at)
    if not chain or following or len(set(chain)) < len(chain):
        raise ValueError(f"The migrations in {directory} are no chain: {chain}, and beside it {following}.")
    return Revisions(chain[-1], frozenset(chain))


def _said(path: Path) -> tuple[str, str | None]:
    said: dict[str, Any] = {}
    for node in ast.parse(path.read_bytes(), str(path)).body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=value))
            ):
                said[name] = value
    revision, before = said.get("revision"), said.get("down_revision", path)
    if not isinstance(revision, str) or not isinstance(before, str | None):
        raise ValueError(f"{path} does not say its revision and down_revision as plain text.")
    return revision, before
