"""`erp serve`: one instance of the API."""

import sys

import click

from erp_service import settings
from erp_service.commands.database import told
from erp_service.serving import serve


@click.command("serve")
def command() -> None:
    """Run one instance of the API.

    Any number may run on one database. SIGTERM: not ready at once, serves on for ERP_DRAIN_SECONDS, then stops.
    """
    with told():
        sys.exit(serve(settings.load()))
