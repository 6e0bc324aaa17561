"""What `erp serve` runs: uvicorn, with a stop that lets the load balancer notice first, so that no request is lost."""

import asyncio
import gc
import resource
import signal
from types import FrameType

import uvicorn

from erp_service.app import create_app
from erp_service.company.environment import warn_of_ignored
from erp_service.observability import telemetry, tracing
from erp_service.operations.readiness import Readiness
from erp_service.processes.http_protocol import LimitedConfig, Limits
from erp_service.services import build_services
from erp_service.settings import Settings, secret_fault

_OPEN_FILES = 8192
_OTHER_FILES = 500  # database connections, export files, the log


class DrainingServer(uvicorn.Server):
    """On SIGTERM: becomes unready at once, answers requests until the drain is over, then stops. A second signal, or
    Ctrl-C, stops it at once."""

    def __init__(self, config: uvicorn.Config, readiness: Readiness, drain_seconds: float) -> None:
        super().__init__(config)
        self._readiness = readiness
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Does not call uvicorn's method, which raises the signal again at the end: the exit status would be 143."""
        if self._readiness.draining or sig == signal.SIGINT or not self.started:
            self._stop()
            return
        telemetry.log.info("draining", seconds=self._drain_seconds)
        self._readiness.draining = True
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        # open event streams end on it: uvicorn would wait for them until its graceful timeout cancels them
        self._readiness.stopping.set()
        self.should_exit = True


def _raise_file_limit() -> int:
    """A thousand open event streams are a thousand sockets; the usual soft limit of 1,024 open files is too low.
    Returns how many files this process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def _collect_less_often() -> None:
    """What is loaded by now stays for ever, so the garbage collector need not look at it again. And a request makes
    thousands of objects and hardly a cycle: with Python's own thresholds, a document of 1,000 lines spent a quarter of
    its time on collections."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def serve(settings: Settings) -> int:
    """Serve until a signal stops it. Returns the exit status: 0 after an orderly stop, 1 if the port is taken."""
    telemetry.configure(settings)
    tracing.configure(settings, "api")
    warn_of_ignored()
    services = build_services(settings)
    # in production it has stopped the start
    if (fault := secret_fault(settings)) is not None:
        telemetry.log.warning("for development only", fault=fault)
    files = _raise_file_limit()
    config = LimitedConfig(
        create_app(services),
        Limits(connections=max(files - _OTHER_FILES, files // 2)),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        timeout_graceful_shutdown=max(1, int(settings.grace_seconds)),
        timeout_keep_alive=75,  # longer than load balancers keep an idle connection, so that they close it first
    )
    server = DrainingServer(config, services.readiness, settings.drain_seconds)
    _collect_less_often()
    try:
        server.run()
    except SystemExit as exc:  # raised by uvicorn if it cannot bind the port
        return exc.code if isinstance(exc.code, int) else 1
    return 0 if server.started else 1
