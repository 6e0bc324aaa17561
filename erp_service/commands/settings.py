"""`erp settings`: what can be set, and what is."""

import json
import sys

import click
from rich.console import Console
from rich.table import Table

from erp_service import settings
from erp_service.commands.terminal import say
from erp_service.settings import SettingsError


@click.command("settings")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(*, as_json: bool) -> None:
    """Every setting with its meaning, default and present value; secrets are masked."""
    fault: SettingsError | None = None
    try:
        loaded = settings.load()
    except SettingsError as exc:
        loaded, fault = None, exc
    lines = list(settings.describe(loaded))
    if as_json:
        click.echo(json.dumps([{f: getattr(line, f) for f in line.__struct_fields__} for line in lines], indent=2))
    else:
        table = Table("variable", "value", "default", "meaning", box=None, pad_edge=False)
        for line in lines:
            table.add_row(line.variable, line.value or "", line.default or "", line.meaning)
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    if fault is not None:
        say(f"\nerp: {fault}")
        sys.exit(1)
