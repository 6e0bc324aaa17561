"""`erp up`: everything on one machine."""

import sys
from pathlib import Path

import click

from erp_service.commands.database import exit_on_error
from erp_service.commands.terminal import say
from erp_service.standalone import up
from erp_service.standalone.postgres import EmbeddedFailed


@click.command("up")
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=8000,
    show_default=True,
    help="Where the API listens, on 127.0.0.1.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".erp"),
    show_default=True,
    help="Holds the database, export files and secrets.",
)
@click.option("--no-demo", is_flag=True, help="Start with no items instead of a small trading company's stock.")
def command(port: int, data_dir: Path, *, no_demo: bool) -> None:
    """Run everything on this machine, in the foreground, in development mode.

    Starts an embedded PostgreSQL (or uses ERP_DATABASE_URL), migrates it, creates the first SUPER_ADMIN and prints the
    password once, loads demo stock, and runs the API and one worker until Ctrl-C.
    """
    with exit_on_error(up.CannotStart, EmbeddedFailed):
        sys.exit(up.run(port=port, data_dir=data_dir, with_demo=not no_demo, say=say))
