"""`erp settings`: lists what can be set, and what is set."""

import json
import os
import sys
import textwrap
from collections.abc import Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table

from erp_service.commands.terminal import FAILED, exit_with, say
from erp_service.settings import Described, Settings, SettingsError, describe, load

_DATABASE = "ERP_DATABASE_URL"
_NARROW = 110  # columns below which a table of four columns cannot be read


@click.command("settings")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def command(*, as_json: bool) -> None:
    """List every setting with its meaning, default and current value; secrets are masked.

    \b
    Exit status:
      0    every value can be used; a database that is not set is only mentioned
      1    a value cannot be used
    """
    rows, fault = _described()
    if as_json:
        click.echo(json.dumps([msgspec.structs.asdict(row) for row in rows], indent=2))
    else:
        click.echo(_as_text(rows))
    if fault is not None:
        exit_with(FAILED, str(fault))
    if not any(row.value for row in rows if row.variable == _DATABASE):
        say(f"\n{_DATABASE} is not set: only `erp up` and `erp export` run without it.")


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


def _as_text(rows: Sequence[Described]) -> str:
    console = Console(width=None if sys.stdout.isatty() else 200)
    if console.width < _NARROW:
        return "\n".join(line for row in rows for line in narrow_lines(row, console.width))
    table = Table("variable", "value", "default", "meaning", box=None, pad_edge=False)
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
