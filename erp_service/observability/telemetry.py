"""Structured logs, with the ids of request, user and job and without secrets and bodies; and Prometheus metrics."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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

from erp_service.settings import Settings

log = structlog.stdlib.get_logger("erp")

# the `_created` series would be a third of each response, and Prometheus ignores them in this format
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
requests = Counter("erp_requests", "Answered requests", ["method", "route", "status"], registry=REGISTRY)
seconds = Histogram("erp_request_seconds", "Seconds until the response started", ["method", "route"], registry=REGISTRY)
failed_open = Counter(
    "erp_limits_failed_open", "Requests let through because a limit could not be read", ["limit"], registry=REGISTRY
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


def configure(settings: Settings) -> None:
    """Write all log lines, also those of libraries, to standard error: as JSON, unless that is a terminal."""
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
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
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    renderer: Any = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # the default prints the local variables of every frame, and secrets and bodies with them
            exception_formatter=structlog.dev.plain_traceback,
        )
        if as_text
        else structlog.processors.JSONRenderer()
    )
    finish = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not as_text:
        finish.append(structlog.processors.format_exc_info)  # type: ignore[arg-type]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*finish, renderer]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
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


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Add these values to every log line that is written inside."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


def request_id(scope: Any) -> str:
    """The id of a request: that of its X-Request-Id header if it is valid, else a new one.

    It is kept in the scope, so all who ask get the same."""
    state = scope.setdefault("state", {})
    if (known := state.get("request_id")) is None:
        header = next((v for n, v in scope.get("headers", ()) if n == b"x-request-id"), b"").decode("latin-1")
        known = state["request_id"] = header if _VALID_ID.fullmatch(header) else str(uuid7())
    return str(known)


def headers_of_all(request_id: str) -> list[tuple[bytes, bytes]]:
    """What every response has."""
    return [(b"x-request-id", request_id.encode()), *_SAFE_HEADERS]


async def before_send(message: Any, scope: Any) -> None:
    """For every response, also those that no route made: the id and safe headers in it, its metrics, one log line."""
    if message["type"] != "http.response.start":
        return
    id_ = request_id(scope)
    message["headers"] = [*message["headers"], *headers_of_all(id_)]
    state = scope["state"]
    # the template and never the path: each id would make a series of its own, and signatures must not be stored
    route = scope.get("path_template") or "(no route)"
    status = scope["state"]["status"] = message["status"]
    requests.labels(scope["method"], route, status).inc()
    duration = perf_counter() - state["started"] if "started" in state else None
    if duration is not None:
        seconds.labels(scope["method"], route).observe(duration)
    user = scope.get("user")
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"][:200],
        status=status,
        milliseconds=None if duration is None else round(duration * 1000, 1),
        user_id=getattr(user, "user_id", None),
        request_id=id_,
    )
