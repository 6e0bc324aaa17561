"""`erp settings`: lists what can be set, and what is set."""

import json
import sys

import click
import msgspec
from rich.console import Console
from rich.table import Table

from erp_service.commands.terminal import say
from erp_service.settings import SettingsError, describe, load


@click.command("settings")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def command(*, as_json: bool) -> None:
    """List every setting with its meaning, default and current value; secrets are masked."""
    fault: SettingsError | None = None
    try:
        settings = load()
    except SettingsError as exc:
        settings, fault = None, exc
    rows = list(describe(settings))
    if as_json:
        click.echo(json.dumps([msgspec.structs.asdict(row) for row in rows], indent=2))
    else:
        table = Table("variable", "value", "default", "meaning", box=None, pad_edge=False)
        for row in rows:
            table.add_row(row.variable, row.value or "", row.default or "", row.meaning)
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    if fault is not None:
        say(f"\nerp: {fault}")
        sys.exit(1)
