"""Structured logs, with the ids of request, user and job, without secrets, bodies and values of the database; and
Prometheus metrics."""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from time import perf_counter
from typing import Any

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from uuid_utils.compat import uuid7

from erp_service.access.key_format import without_keys
from erp_service.observability import request_log
from erp_service.observability.exception_text import described, traceback_text, without_values
from erp_service.settings import Settings

log = structlog.stdlib.get_logger("erp")

# the `_created` series would be a third of each response, and Prometheus ignores them in this format
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
requests = Counter("erp_requests", "Answered requests", ["method", "route", "status"], registry=REGISTRY)
seconds = Histogram("erp_request_seconds", "Seconds until the response started", ["method", "route"], registry=REGISTRY)
failed_open = Counter(
    "erp_limits_failed_open",
    "Requests that a limit could not count, and successes whose attempt it could not give back",
    ["limit"],
    registry=REGISTRY,
)
pool_in_use = Gauge("erp_pool_connections_in_use", "Database connections in use", registry=REGISTRY)
pool_size = Gauge("erp_pool_connections", "Database connections that this instance may open", registry=REGISTRY)
# labelled by host: an instance without a replica has no such series
replica_in_use = Gauge(
    "erp_replica_in_use", "1 while reports and exports read the replica", ["host"], registry=REGISTRY
)
replica_lag_bytes = Gauge("erp_replica_lag_bytes", "Bytes of WAL that the replica lacks", ["host"], registry=REGISTRY)
replica_lag_seconds = Gauge(
    "erp_replica_lag_seconds", "Seconds by which the replica is behind", ["host"], registry=REGISTRY
)
repeatable_reads = Counter(
    "erp_repeatable_reads", "Reads of reports and exports, by the server that answered", ["server"], registry=REGISTRY
)
leader_away = Gauge(
    "erp_leader_away",
    "1 while no primary can be reached, as far as an instance with a replica knows",
    registry=REGISTRY,
)
authority_alone = Counter(
    "erp_authority_without_primary",
    "Requests whose credential was looked up on a replica, since no primary could be reached",
    registry=REGISTRY,
)
leader_timeline = Gauge("erp_leader_timeline", "The timeline of the leader that was met last", registry=REGISTRY)
leader = Gauge("erp_leader", "1 for the host that led when a connection was opened last", ["host"], registry=REGISTRY)
leader_missing_seconds = Gauge(
    "erp_leader_missing_seconds",
    "For how long no connection to a leader could be opened; 0 also if none was needed",
    registry=REGISTRY,
)
connections_left = Counter(
    "erp_connections_left",
    "Connections that were closed since their server was demoted, or leads on an older timeline",
    ["reason"],
    registry=REGISTRY,
)
leader_changes = Counter("erp_leader_changes", "Times that another server was found to lead", registry=REGISTRY)
older_leaders_refused = Counter(
    "erp_older_leaders_refused", "Connections to a server that led on an older timeline", registry=REGISTRY
)
unreplicated_commits = Counter(
    "erp_unreplicated_commits", "Commits that no synchronous standby confirmed: answered as failures", registry=REGISTRY
)
notices_up = Gauge("erp_notices_up", "1 while this instance receives notifications", registry=REGISTRY)
rescues = Counter(
    "erp_queue_rescues",
    "Jobs that this worker took from another, or had lost",
    ["reason", "ending"],
    registry=REGISTRY,
)
fenced = Counter("erp_queue_fenced", "Runs of this worker that another had taken over", ["what"], registry=REGISTRY)

_VALID_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_SAFE_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_SECRETS = ("password", "token", "secret", "authorization", "signature", "cookie")


class _Handler(logging.StreamHandler[Any]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 the name is the base's
        """Python's own prints the message and its arguments as they are."""
        if (exc := sys.exc_info()[1]) is not None and sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"a line of {record.name} was not logged: {described(exc)}\n")


def configure(settings: Settings) -> None:
    """Write all log lines, also those of libraries, to standard error: as JSON, unless that is a terminal."""
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    _configure(as_text=as_text, level=settings.log_level.upper(), cached=True)
    request_log.configure(as_json=not as_text)


def configure_for_command() -> None:
    """The same for a command that a person runs: warnings and errors, as text."""
    _configure(as_text=True, level="WARNING", cached=False)


def _configure(*, as_text: bool, level: str, cached: bool) -> None:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _masked,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=cached,
    )
    handler = _Handler(sys.stderr)
    renderer: Any = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # never used, see _without_exceptions: the default prints the local variables of every frame
            exception_formatter=structlog.dev.plain_traceback,
        )
        if as_text
        else structlog.processors.JSONRenderer()
    )
    handler.addFilter(_describe_arguments)
    finish: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_exceptions]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*finish, renderer]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for library in ("httpx", "httpcore", "asyncio", "psycopg", "procrastinate", "uvicorn"):
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))


def serve_metrics(settings: Settings) -> None:
    """Serve this worker's metrics at /metrics of `ERP_METRICS_PORT`, from a thread, if that is set.

    Raises OSError if the port is in use."""
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.host, REGISTRY)


def _masked(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    for name in event:
        if any(secret in name.lower() for secret in _SECRETS):
            event[name] = "********"
    return event


def _without_exceptions(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Replaces every exception by what may be said of it, and cuts texts in which a library has put one itself."""
    info = event.pop("exc_info", None)
    exc = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else None
    exc = sys.exc_info()[1] if exc is None and info is True else exc
    for name, value in event.items():
        event[name] = _shown(value)
    if exc is not None:
        event["exception"] = traceback_text(exc)
    return event


def _shown(value: object) -> object:
    if isinstance(value, BaseException):
        return described(value)
    if isinstance(value, str):
        return without_values(value)
    return tuple(map(_shown, value)) if isinstance(value, tuple | list) else value


def _describe_arguments(record: logging.LogRecord) -> bool:
    """A filter, since the arguments of a library's message are filled in before any processor sees it."""
    if isinstance(record.args, tuple):
        record.args = tuple(described(value) if isinstance(value, BaseException) else value for value in record.args)
    return True


@contextlib.contextmanager
def bound(**values: object) -> Iterator[None]:
    """Add these values to every log line that is written inside."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


def request_id(scope: Any) -> str:
    """The id of a request: that of its X-Request-Id header if it is valid and holds no API key, else a new one.

    It is kept in the scope, so all who ask get the same."""
    state = scope.setdefault("state", {})
    if (known := state.get("request_id")) is None:
        header = next((v for n, v in scope.get("headers", ()) if n == b"x-request-id"), b"").decode("latin-1")
        known = state["request_id"] = header if _is_id(header) else str(uuid7())
    return str(known)


def _is_id(header: str) -> bool:
    return _VALID_ID.fullmatch(header) is not None and without_keys(header) == header


def headers_of_all(request_id: str) -> list[tuple[bytes, bytes]]:
    """What every response has."""
    return [(b"x-request-id", request_id.encode()), *_SAFE_HEADERS]


async def before_send(message: Any, scope: Any) -> None:
    """For every response, also those that no route made: the id and safe headers in it and those that were noted in
    `state["headers"]` on its way, its metrics, one log line."""
    if message["type"] != "http.response.start":
        return
    id_ = request_id(scope)
    state = scope["state"]
    noted: dict[bytes, bytes] = state.get("headers", {})
    message["headers"] = [*message["headers"], *noted.items(), *headers_of_all(id_)]
    # the template and never the path: each id would make a series of its own, and signatures must not be stored
    route = scope.get("path_template") or "(no route)"
    status = scope["state"]["status"] = message["status"]
    _answered(scope["method"], route, status).inc()
    duration = perf_counter() - state["started"] if "started" in state else None
    if duration is not None:
        _durations(scope["method"], route).observe(duration)
    request_log.write(scope, status, duration, id_)


# to look a series up by its labels takes longer than to count in it
@lru_cache(4096)
def _answered(method: str, route: str, status: int) -> Counter:
    return requests.labels(method, route, status)


@lru_cache(4096)
def _durations(method: str, route: str) -> Histogram:
    return seconds.labels(method, route)
