"""`erp serve`: runs one instance of the API."""

import socket
import sys

import click
import msgspec

from erp_service.commands.database import exit_on_error
from erp_service.commands.terminal import FAILED, exit_with
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
        _require_free(settings.host, settings.port)
        sys.exit(serve(settings))


def _require_free(host: str, port: int) -> None:
    """One sentence about an address that cannot be used, before anything is started and logged."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                # as the server does, so that connections of an earlier one that linger do not count
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as exc:
        exit_with(
            FAILED,
            f"cannot listen on {host} port {port}: {exc.strerror}. Say --host, --port or ERP_HOST, ERP_PORT.",
        )
