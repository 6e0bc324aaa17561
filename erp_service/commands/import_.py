"""`erp import`: imports a whole file, or nothing of it."""

import asyncio
from typing import Literal

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from erp_service import settings
from erp_service.access.principals import command as by_command
from erp_service.commands.database import exit_on_error
from erp_service.commands.terminal import say
from erp_service.imports.csv_table import ImportRefused
from erp_service.imports.service import load

_COLUMNS = (TextColumn("{task.description:<12}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())


@click.command("import")
@click.argument("kind", type=click.Choice(["items", "locations", "movements"]))
@click.argument("file")
def command(kind: Literal["items", "locations", "movements"], file: str) -> None:
    """Load a CSV file, all of it or nothing; `-` reads standard input; .xz, .gz and .zst are unpacked.

    \b
    items      sku, name, unit [, status, description, reorder_point]
    locations  code, name, location_type [, address, parent, allow_negative_stock]
    movements  occurred_at, type, sku, location, quantity [, to_location, unit_cost, reference_no, notes, reason]

    Every bad line is named. The same content is refused a second time.
    """
    with exit_on_error(ImportRefused), Progress(*_COLUMNS, console=Console(stderr=True), transient=False) as bar:
        loaded = settings.load()
        task = bar.add_task("reading", total=None)

        def show(done: int, total: int, phase: str) -> None:
            bar.update(task, description=phase, completed=done, total=total or None)

        url = loaded.migration_database_url or loaded.listen_url
        result = asyncio.run(load(url, kind, file, who=by_command("erp import"), progress=show))
    say(f"Imported {result.rows:,} {kind}.")
