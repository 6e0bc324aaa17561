"""`erp serve`: runs one instance of the API."""

import sys

import click

from erp_service.commands.database import exit_on_error
from erp_service.processes.api import serve
from erp_service.settings import load


@click.command("serve")
def command() -> None:
    """Run one instance of the API.

    Any number may run on one database. On SIGTERM it becomes unready, answers requests for another ERP_DRAIN_SECONDS,
    and then stops.
    """
    with exit_on_error():
        sys.exit(serve(load()))
