"""Structured logs that carry request, user and job ids, and never a secret or a body; and Prometheus metrics."""

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

# a third of each answer, of which Prometheus makes nothing in this format
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
requests = Counter("erp_requests", "Answered requests", ["method", "route", "status"], registry=REGISTRY)
seconds = Histogram("erp_request_seconds", "Seconds until the answer started", ["method", "route"], registry=REGISTRY)
failed_open = Counter(
    "erp_limits_failed_open", "Requests let through because a limit could not be read", ["limit"], registry=REGISTRY
)
pool_in_use = Gauge("erp_pool_connections_in_use", "Database connections in use", registry=REGISTRY)
pool_size = Gauge("erp_pool_connections", "Database connections that this instance may open", registry=REGISTRY)
# by host, so that there is none where no replica is set
replica_in_use = Gauge(
    "erp_replica_in_use", "1 while reports and exports read the replica", ["host"], registry=REGISTRY
)
replica_lag_bytes = Gauge("erp_replica_lag_bytes", "Bytes of WAL that the replica lacks", ["host"], registry=REGISTRY)
replica_lag_seconds = Gauge(
    "erp_replica_lag_seconds", "Seconds by which the replica is behind", ["host"], registry=REGISTRY
)
repeatable_reads = Counter(
    "erp_repeatable_reads", "Reads of reports and exports, by who answered them", ["server"], registry=REGISTRY
)
notices_up = Gauge("erp_notices_up", "1 while this instance hears of changes", registry=REGISTRY)
rescues = Counter(
    "erp_queue_rescues",
    "Jobs that this worker took from another, or found lost",
    ["reason", "ending"],
    registry=REGISTRY,
)
fenced = Counter("erp_queue_fenced", "Runs of this worker that were no longer its own", ["what"], registry=REGISTRY)

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_SAFE_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_SECRETS = ("password", "token", "secret", "authorization", "signature", "cookie")


def configure(settings: Settings) -> None:
    """One way out for every log line, ours and the libraries': standard error, JSON unless that is a terminal."""
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
            # the default prints the local variables of every frame, secrets and bodies among them
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
    for chatty in ("httpx", "httpcore", "asyncio", "psycopg", "procrastinate", "uvicorn"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def serve_metrics(settings: Settings) -> None:
    """A worker's own counters at /metrics of `ERP_METRICS_PORT`, from a thread; without that setting, nowhere.

    Raises OSError if the port is taken."""
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.host, REGISTRY)


def _masked(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    for name in event:
        if any(secret in name.lower() for secret in _SECRETS):
            event[name] = "********"
    return event


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Every log line inside carries these values."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


def request_id(scope: Any) -> str:
    """The id of a request: the caller's own if it is sane, else a new one; made once and kept in the scope."""
    state = scope.setdefault("state", {})
    if (known := state.get("request_id")) is None:
        sent = next((v for n, v in scope.get("headers", ()) if n == b"x-request-id"), b"").decode("latin-1")
        known = state["request_id"] = sent if _SANE_ID.fullmatch(sent) else str(uuid7())
    return str(known)


async def before_send(message: Any, scope: Any) -> None:
    """On every answer, also those that no route gave: the id, safe headers, the metrics, one log line."""
    if message["type"] != "http.response.start":
        return
    known = request_id(scope)
    message["headers"] = [*message["headers"], (b"x-request-id", known.encode()), *_SAFE_HEADERS]
    state = scope["state"]
    # the template, never the path: ids would make a series each, and signatures must not be kept
    route = scope.get("path_template") or "(no route)"
    status = scope["state"]["status"] = message["status"]
    requests.labels(scope["method"], route, status).inc()
    took = perf_counter() - state["started"] if "started" in state else None
    if took is not None:
        seconds.labels(scope["method"], route).observe(took)
    user = scope.get("user")
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"][:200],
        status=status,
        milliseconds=None if took is None else round(took * 1000, 1),
        user_id=getattr(user, "user_id", None),
        request_id=known,
    )
