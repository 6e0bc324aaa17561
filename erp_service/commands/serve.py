"""`erp serve`: one instance of the API."""

import sys

import click

from erp_service import settings
from erp_service.commands.database import exit_on_error
from erp_service.processes.api import serve


@click.command("serve")
def command() -> None:
    """Run one instance of the API.

    Any number may run on one database. SIGTERM: not ready at once, serves on for ERP_DRAIN_SECONDS, then stops.
    """
    with exit_on_error():
        sys.exit(serve(settings.load()))
