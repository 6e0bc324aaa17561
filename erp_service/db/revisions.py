"""The migrations that this code knows, and whether a database has them: read without Alembic.

Importing Alembic takes a third of a second, which only a process that migrates should pay."""

import ast
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from asyncpg import UndefinedTableError
from sqlalchemy import text

from erp_service.db.sessions import ReadSession

_PACKAGE = Path(__file__).parents[1]
_INSIDE = _PACKAGE / "migrations"

DIRECTORY = _INSIDE if _INSIDE.is_dir() else _PACKAGE.parent / "migrations"
"""Inside the package in an installed wheel, beside it in a checkout."""


class Revisions(NamedTuple):
    """`head` is the last of them, which the code needs."""

    head: str
    known: frozenset[str]


async def behind(db: ReadSession) -> str | None:
    """Why this code cannot run on the database, or None.

    It can run on one that a later release has migrated: migrations only add what is new."""
    head, known = ours()
    try:
        present = await db.scalar(text("select version_num from alembic_version"))
    except UndefinedTableError:
        present = None
    if present is None:
        return "The database is empty: run `erp migrate`."
    if present in known and present != head:
        return f"The database is at migration {present} and this code needs {head}: run `erp migrate`."
    return None


@cache
def ours() -> Revisions:
    """The revisions that this code comes with."""
    return read(DIRECTORY / "versions")


def read(directory: Path) -> Revisions:
    """The revisions whose files lie in a directory.

    Raises ValueError unless each file has `revision` and `down_revision` as string literals, and all form one chain:
    Alembic has branches too, but this service does not use them."""
    next_of: dict[str | None, str] = {}
    for path in sorted(directory.glob("*.py")):
        revision, down_revision = _revision_of(path)
        if down_revision in next_of:
            raise ValueError(f"Two migrations come after {down_revision}: {next_of[down_revision]} and {revision}.")
        next_of[down_revision] = revision
    chain: list[str] = []
    revision_at: str | None = None
    while (revision_at := next_of.pop(revision_at, None)) is not None:
        chain.append(revision_at)
    if not chain or next_of or len(set(chain)) < len(chain):
        raise ValueError(f"The migrations in {directory} are no chain: {chain}, and beside it {next_of}.")
    return Revisions(chain[-1], frozenset(chain))


def _revision_of(path: Path) -> tuple[str, str | None]:
    """`revision` and `down_revision` of a migration."""
    values: dict[str, Any] = {}
    for node in ast.parse(path.read_bytes(), str(path)).body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=value))
            ):
                values[name] = value
    # None is a value of down_revision: that of the first migration
    revision, down_revision = values.get("revision"), values.get("down_revision", path)
    if not isinstance(revision, str) or not isinstance(down_revision, str | None):
        raise ValueError(f"{path} does not say its revision and down_revision as plain text.")
    return revision, down_revision
