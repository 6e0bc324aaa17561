"""`erp worker`: one worker."""

import sys

import click

from erp_service import settings
from erp_service.commands.database import WAIT_SECONDS, exit_on_error
from erp_service.processes.worker import work


@click.command("worker")
def command() -> None:
    """Run one worker: exports and upkeep.

    Any number may run on one database. SIGTERM: takes no new job, waits ERP_GRACE_SECONDS for those in hand, and puts
    the rest back. The same as: procrastinate --app=erp_service.worker.app worker
    """
    with exit_on_error():
        sys.exit(work(settings.load(), WAIT_SECONDS))
