"""`erp worker`: runs one worker."""

import sys

import click

from erp_service.commands.database import WAIT_SECONDS, exit_on_error
from erp_service.processes.worker import work
from erp_service.settings import load


@click.command("worker")
def command() -> None:
    """Run one worker: exports and housekeeping.

    Any number may run on one database. On SIGTERM it takes no new job, waits ERP_GRACE_SECONDS for those that run, and
    gives the rest back to the queue. The same as: procrastinate --app=erp_service.worker.app worker
    """
    with exit_on_error():
        sys.exit(work(load(), WAIT_SECONDS))
