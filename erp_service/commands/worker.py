"""`erp worker`: runs one worker."""

import sys

import click
import msgspec

from erp_service.commands.database import WAIT_SECONDS, exit_on_error
from erp_service.processes.worker import work
from erp_service.settings import load


@click.command("worker")
@click.option("--host", metavar="ADDRESS", help="Serve metrics on this address instead of ERP_HOST.")
@click.option("--metrics-port", type=click.IntRange(0, 65_535), help="Instead of ERP_METRICS_PORT; 0: no metrics.")
@click.option("--concurrency", type=click.IntRange(1, 100), help="Exports at once, instead of ERP_WORKER_CONCURRENCY.")
def command(host: str | None, metrics_port: int | None, concurrency: int | None) -> None:
    """Run one worker: exports and housekeeping.

    Any number may run on one database. On SIGTERM it takes no new job, waits ERP_GRACE_SECONDS for those that run, and
    gives the rest back to the queue. The same as: procrastinate --app=erp_service.worker.app worker

    \b
    Exit status:
      0    stopped by a signal, in order
      1    a setting is missing or wrong, the database did not come, or a part of
           the worker failed
      2    the command line is wrong
    """
    options = {"host": host, "metrics_port": metrics_port, "worker_concurrency": concurrency}
    with exit_on_error():
        given = {name: value for name, value in options.items() if value is not None}
        sys.exit(work(msgspec.structs.replace(load(), **given), WAIT_SECONDS))
