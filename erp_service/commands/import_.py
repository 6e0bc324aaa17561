"""`erp import`: imports a whole file, or nothing of it."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Literal
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from erp_service import settings
from erp_service.access.principals import command as by_command
from erp_service.commands import import_service
from erp_service.commands.database import exit_on_error
from erp_service.commands.progress import TimeColumn
from erp_service.commands.terminal import INTERRUPTED, exit_with, say
from erp_service.errors import Refused
from erp_service.imports.files.dialect import SEPARATORS, Dialect
from erp_service.imports.files.faults import ImportRefused
from erp_service.imports.jobs.run.undo import undo
from erp_service.imports.service import Loaded, counted, importing, load
from erp_service.imports.spool import CannotRead
from erp_service.imports.stored import Mode
from erp_service.timestamps import parse_zone

Kind = Literal["items", "locations", "movements"]

_COLUMNS = (TextColumn("{task.description:<12}"), BarColumn(), TaskProgressColumn(), TimeColumn())


class Zone(click.ParamType[ZoneInfo]):
    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:
        try:
            return parse_zone(str(value))
        except ValueError as exc:
            self.fail(f"{value!r} {exc}", param, ctx)


class Encoding(click.ParamType[str]):
    name = "encoding"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            "a".encode(str(value))  # refuses what is no encoding of texts, such as base64
        except (LookupError, ValueError):
            self.fail(f"{value!r} is not an encoding of texts, such as utf-8, cp1252 or utf-16", param, ctx)
        return str(value)


@click.command("import")
@click.argument("kind", type=click.Choice(["items", "locations", "movements"]), required=False)
@click.argument("file", required=False)
@click.option("--delimiter", type=click.Choice(list(SEPARATORS)), help="Between two cells; mostly recognised.")
@click.option("--decimal-comma", is_flag=True, help="Numbers are written 12,5 and not 12.5.")
@click.option("--timezone", "zone", type=Zone(), help="Of times that state none, such as Europe/Berlin.")
@click.option("--encoding", type=Encoding(), help="Such as cp1252. By default UTF-8, or UTF-16 with its mark.")
@click.option("--sort", type=click.Choice(["occurred_at", "id"]), help="Post movements in this order, not the file's.")
@click.option(
    "--history",
    is_flag=True,
    help="The movements are of the past: they may concern items that are INACTIVE or DISCONTINUED by now.",
)
@click.option("--keep-codes", is_flag=True, help="Take skus and codes that a spreadsheet seems to have damaged.")
@click.option(
    "--mode",
    type=click.Choice(["create", "update", "upsert"]),
    default="create",
    show_default=True,
    help="What to do with skus and codes that exist, and with new ones.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, and keep nothing.")
@click.option(
    "--undo", metavar="IMPORT", help="Reverse an import of movements: its number, or with --url its job's id."
)
@click.option("--reason", default="import undone", show_default=True, help="Of --undo.")
@click.option("--url", help="Send the file to a running service, instead of using its database.")
@click.option("--user", metavar="E-MAIL", help="With --url: sign in instead of using ERP_TOKEN.")
def command(kind: Kind | None, file: str | None, *, url: str | None, user: str | None, **given: Any) -> None:
    """Load a file of CSV or JSON Lines, all of it or nothing; `-` is standard input; .xz, .gz, .zst are unpacked.

    \b
    items      sku, name, unit [, status, description, reorder_point]
    locations  code, name, location_type [, address, parent, allow_negative_stock]
    movements  occurred_at, type, sku, location, quantity [, to_location,
               unit_cost or total_cost, reference_no, notes, reason];
               other columns become metadata

    Exports of items, locations and stock_movements as CSV or JSON Lines are taken as they are. Every bad line is named.
    The same content is refused a second time, also when a spreadsheet has saved it again, unless it updates.

    Works on the database of ERP_DATABASE_URL; with --url as a client of a service, with ERP_TOKEN or after it has asked
    for e-mail and password.

    \b
    erp import items items.csv --mode upsert
    erp import movements 2026.csv.gz --dry-run --url https://erp.example.com
    erp import --undo 7 --reason "the wrong file"

    \b
    Exit status:
      0    all of it was imported; with --dry-run, it would be
      1    the file is refused, or it or the database cannot be used: nothing was
           imported
      2    the command line is wrong
      4    with --url: the service cannot be reached
      130  interrupted: nothing was imported, unless the message says otherwise
    """
    number = given.pop("undo")
    if (number is None) == (kind is None) or (kind is None) != (file is None):
        raise click.UsageError("Say what to import and its FILE, or --undo IMPORT.")
    if url is not None:
        import_service.run(url, user, kind, file, number, given)
    elif number is not None:
        _undo(number, given["reason"])
    elif kind is not None and file is not None:
        _load(kind, file, **given)


def _load(
    kind: Kind, file: str, *, delimiter: str | None, mode: Mode, dry_run: bool, reason: str, **given: Any
) -> None:
    state = _State()
    with exit_on_error(ImportRefused, CannotRead), _interruptible(state), _progress() as bar:
        phases = _Phases(bar)
        result = asyncio.run(
            load(
                *(_database_url(), kind, file),
                who=by_command("erp import"),
                dialect=Dialect(delimiter=SEPARATORS.get(delimiter or ""), **given),
                mode=mode,
                dry_run=dry_run,
                progress=phases.show,
                committing=state.commit,
            )
        )
        phases.finish()
    for warning in result.warnings:
        say(f"warning: {warning}")
    say(_outcome(result, dry_run=dry_run))


def _undo(number: str, reason: str) -> None:
    if not (number.isascii() and number.isdecimal()):
        raise click.UsageError("--undo takes the number of an import, or with --url the id of its job.")
    state = _State()

    async def reverse(phases: _Phases) -> int:
        async with importing(_database_url()) as db:
            count = await undo(db, by_command("erp import"), int(number), reason, phases.show)
            state.commit()
            return count

    with exit_on_error(Refused), _interruptible(state), _progress() as bar:
        phases = _Phases(bar)
        count = asyncio.run(reverse(phases))
        phases.finish()
    say(f"Reversed {count:,} document{'' if count == 1 else 's'}.")


def _database_url() -> str:
    loaded = settings.load()
    return loaded.migration_database_url or loaded.listen_url


class _Phases:
    """A line of the display for each phase, with its own time."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def show(self, done: int, total: int, phase: str) -> None:
        if phase not in self._tasks:
            self.finish()
            self._tasks[phase] = self._bar.add_task(phase)
        self._bar.update(self._tasks[phase], completed=done, total=total or None)

    def finish(self) -> None:
        """The last phase is done, whatever its total was thought to be: records may span several lines."""
        for task in self._bar.tasks[-1:]:
            self._bar.update(task.id, total=task.completed or 1, completed=task.completed or 1)


class _State:
    """Whether it is still certain that nothing was imported."""

    def __init__(self) -> None:
        self.commits = False

    def commit(self) -> None:
        self.commits = True


@contextlib.contextmanager
def _interruptible(state: _State) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        outcome = "Nothing was imported."
        if state.commits:
            outcome = "Whether it was imported, the same command says: what was imported, it refuses."
        exit_with(INTERRUPTED, f"interrupted. {outcome}")


def _progress() -> Progress:
    console = Console(stderr=True)
    # a file or a pipe would get the finished bars only, as lines between the messages
    return Progress(*_COLUMNS, console=console, disable=not console.is_terminal)


def _outcome(result: Loaded, *, dry_run: bool) -> str:
    blank = f" Rows without any value: {result.blank_rows:,}, passed over." if result.blank_rows else ""
    count = counted(result.rows, result.kind)
    if result.mode != "create":
        count = f"{count}: {result.created:,} new, {result.updated:,} changed, {result.unchanged:,} unchanged"
    return f"Nothing was imported. It would be {count}.{blank}" if dry_run else f"Imported {count}.{blank}"
