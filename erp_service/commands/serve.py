"""`erp serve`: runs one instance of the API."""

import sys

import click
import msgspec

from erp_service.commands.database import exit_on_error
from erp_service.processes.api import serve
from erp_service.settings import load


@click.command("serve")
@click.option("--host", metavar="ADDRESS", help="Listen on this address instead of ERP_HOST.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Listen on this port instead of ERP_PORT; 0: any.")
def command(host: str | None, port: int | None) -> None:
    """Run one instance of the API.

    Any number may run on one database. On SIGTERM it becomes unready, answers requests for another ERP_DRAIN_SECONDS,
    and then stops.

    \b
    Exit status:
      0    stopped by a signal, in order
      1    a setting is missing or wrong, or the port is taken
      2    the command line is wrong
    """
    with exit_on_error():
        settings = load()
        if host is not None:
            settings = msgspec.structs.replace(settings, host=host)
        if port is not None:
            settings = msgspec.structs.replace(settings, port=port)
        sys.exit(serve(settings))
