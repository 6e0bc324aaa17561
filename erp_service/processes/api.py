"""`erp serve`: uvicorn, made to leave a load balancer without losing a request."""

import asyncio
import resource
import signal
from types import FrameType

import uvicorn

from erp_service.app import create_app
from erp_service.observability import telemetry, tracing
from erp_service.operations.readiness import Readiness
from erp_service.services import build_services
from erp_service.settings import Settings

FILES = 8192


class DrainingServer(uvicorn.Server):
    """SIGTERM: not ready at once, serve on for the drain, then stop. A second signal, or Ctrl-C, stops now."""

    def __init__(self, config: uvicorn.Config, readiness: Readiness, drain_seconds: float) -> None:
        super().__init__(config)
        self._readiness = readiness
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Never calls uvicorn's own, which raises the signal again at the end: exit status 143 instead of 0."""
        if self._readiness.draining or sig == signal.SIGINT or not self.started:
            self._stop()
            return
        telemetry.log.info("draining", seconds=self._drain_seconds)
        self._readiness.draining = True
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        # open event streams watch it: one that did not would hold the exit until it is cancelled
        self._readiness.stopping.set()
        self.should_exit = True


def _raise_file_limit() -> None:
    """A thousand followers of exports are a thousand sockets; the usual soft limit of 1,024 files is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def serve(settings: Settings) -> int:
    """Serve until told to stop; returns the exit status: 0 after an orderly stop, 1 if the port is not to be had."""
    telemetry.configure(settings)
    tracing.configure(settings, "api")
    services = build_services(settings)
    config = uvicorn.Config(
        create_app(services),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        timeout_graceful_shutdown=max(1, int(settings.grace_seconds)),
        timeout_keep_alive=75,  # longer than a load balancer keeps an idle connection, so that it closes first
        # a flood of slow clients is refused instead of eating the memory
        limit_concurrency=2000,
        h11_max_incomplete_event_size=64 * 1024,
    )
    _raise_file_limit()
    server = DrainingServer(config, services.readiness, settings.drain_seconds)
    try:
        server.run()
    except SystemExit as exc:  # uvicorn's way to say that it could not bind
        return exc.code if isinstance(exc.code, int) else 1
    return 0 if server.started else 1
