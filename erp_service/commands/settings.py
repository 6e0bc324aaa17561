"""`erp settings`: lists what can be set and what is set, in the environment and in the database; sets what is in the
latter."""

import asyncio
import json
import os
import sys
import textwrap
from collections.abc import Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table

from erp_service import errors
from erp_service.access.principals import command as by_command
from erp_service.commands.database import exit_on_error, open_database
from erp_service.commands.terminal import FAILED, WholeSentences, exit_with, say
from erp_service.company import catalogue
from erp_service.company.environment import ADVICE, ignored_variables
from erp_service.company.queries import lock_for_update, settings_out
from erp_service.company.schemas import SettingsChange, SettingsOut
from erp_service.company.service import change
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.observability.exception_text import reason as reason_of
from erp_service.settings import Described, Settings, SettingsError, describe, load
from erp_service.validation import read_hook, without_path

_DATABASE = "ERP_DATABASE_URL"
_NARROW = 110  # columns below which a table of four columns cannot be read
_CONNECTION = "erp settings"
_READ_SECONDS = 3.0
"""How long the list waits for the database, without which it shows the rest."""


@click.group("settings", cls=WholeSentences, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> None:
    """List every setting with its meaning, default and current value; secrets are masked.

    What concerns the processes is set by variables ERP_... of the environment of each. What the company's owner decides
    is in the database, and in force on every process within a second:

    \b
    erp settings set NAME VALUE    as PATCH /api/v1/settings does it
    erp settings reset NAME        back to the default

    \b
    Exit status:
      0    every value can be used; a database that is not set, or does not
           answer, is only mentioned
      1    a value cannot be used
    """
    if context.invoked_subcommand is not None:
        return
    rows, fault = _described()
    company, why = _described_company()
    if as_json:
        own = [{"setting": None, **msgspec.structs.asdict(row)} for row in rows]
        others = [{**msgspec.structs.asdict(row), "variable": None, "setting": row.variable} for row in company]
        click.echo(json.dumps(own + others, indent=2))
    else:
        click.echo(_as_text("variable", rows))
        click.echo("\nIn the database, the same for all processes: `erp settings set NAME VALUE` changes them.\n")
        click.echo(_as_text("setting", company))
    for variable in ignored_variables():
        say(f"\n{variable} is ignored. {ADVICE}")
    if fault is not None:
        exit_with(FAILED, str(fault))
    if not any(row.value for row in rows if row.variable == _DATABASE):
        say(f"\n{_DATABASE} is not set: only `erp up` and `erp export` run without it.")
    elif why is not None:
        say(f"\nWhat is set in the database is not known: {why}")


_NAME = click.Choice(catalogue.NAMES)
_REASON = click.option("--reason", help="Why, for the audit log; needed to open a closed period.")


@command.command("set")
@click.argument("name", type=_NAME, metavar="NAME")
@click.argument("value")
@_REASON
def set_(name: str, value: str, reason: str | None) -> None:
    """Set what the company's owner decides; the audit log keeps who did it on which machine.

    \b
    erp settings set currency CHF
    erp settings set timezone Europe/Zurich
    erp settings set closed_through 2026-01-31
    erp settings set requests_per_minute_per_key null
    """
    _change(name, value, reason)


@command.command("reset")
@click.argument("name", type=_NAME, metavar="NAME")
@_REASON
def reset(name: str, reason: str | None) -> None:
    """Give a setting its default again."""
    _change(name, catalogue.DEFAULTS.get(name), reason)


def _change(name: str, value: object, reason: str | None) -> None:
    with exit_on_error():
        try:
            wanted = msgspec.convert({name: value}, SettingsChange, strict=False, dec_hook=read_hook)
        except msgspec.ValidationError as exc:
            exit_with(FAILED, f"{name} cannot be {value}: {without_path(str(exc))}")
        before, after = asyncio.run(_write(load(), wanted, reason))
        was, now = (catalogue.text_of(getattr(settings, name)) for settings in (before, after))
        click.echo(f"{name} is {now}, as it was." if was == now else f"{name} is {now}; it was {was}.")


async def _write(settings: Settings, wanted: SettingsChange, reason: str | None) -> tuple[SettingsOut, SettingsOut]:
    async with open_database(settings, _CONNECTION) as database, database.write() as db:
        before = await lock_for_update(db)
        return before, await change(db, by_command(_CONNECTION), before, wanted, reason)


def _described() -> tuple[list[Described], SettingsError | None]:
    """What is set is shown even if the database is not, which every other setting does without."""
    try:
        return list(describe(load())), None
    except SettingsError as exc:
        fault = exc
    settings: Settings | None = None
    try:
        if not (os.environ.get(_DATABASE) or os.environ.get(f"{_DATABASE}_FILE")):
            settings = load({**os.environ, _DATABASE: "postgresql://"})
    except SettingsError:
        return list(describe(None)), fault
    rows = list(describe(settings))
    if settings is None:
        return rows, fault
    return [msgspec.structs.replace(row, value=None) if row.variable == _DATABASE else row for row in rows], None


def _described_company() -> tuple[list[Described], str | None]:
    """And why the values are not known, if they are not."""
    try:
        return list(catalogue.describe(asyncio.run(_read(load())))), None
    except SettingsError as exc:
        why = str(exc)
    except (errors.Refused, *DATABASE_ERRORS) as exc:
        why = reason_of(exc)
    return list(catalogue.describe(None)), why


async def _read(settings: Settings) -> SettingsOut:
    async with asyncio.timeout(_READ_SECONDS), open_database(settings, _CONNECTION) as database:
        return await settings_out(database.reader)


def _as_text(heading: str, rows: Sequence[Described]) -> str:
    console = Console(width=None if sys.stdout.isatty() else 200)
    if console.width < _NARROW:
        return "\n".join(line for row in rows for line in narrow_lines(row, console.width))
    table = Table(heading, "value", "default", "meaning", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.variable, row.value or "", row.default or "", row.meaning)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def narrow_lines(row: Described, width: int) -> list[str]:
    """For a narrow terminal."""
    default = f" (default {row.default})" if row.default else ""
    first = f"{row.variable}{f' = {row.value}' if row.value else ''}{default}"
    return [first, *textwrap.wrap(row.meaning, width, initial_indent="    ", subsequent_indent="    ")]
