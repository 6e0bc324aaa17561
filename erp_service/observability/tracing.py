"""OpenTelemetry traces: one trace from the submission of an export, through the queue, to the worker's file.

The code speaks to OpenTelemetry's API, which does nothing until `configure` installs the SDK."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import structlog
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from erp_service.errors import Refused
from erp_service.settings import Settings, SettingsError

Kind = Literal["INTERNAL", "SERVER", "CONSUMER"]
Value = str | int | float | bool

# a proxy, which finds the provider that `configure` installs later
_TRACER = trace.get_tracer("erp_service")
_TRACE_CONTEXT = TraceContextTextMapPropagator()


def configure(settings: Settings, part: str) -> None:
    """Send the spans of this process to the collector, in the background: an unavailable collector delays nothing.

    Raises SettingsError if the setting asks for a library that is not installed."""
    if not settings.otel_endpoint:
        return
    try:
        module: Any = importlib.import_module("erp_service.observability.trace_export")
    except ModuleNotFoundError as exc:
        raise SettingsError(
            "ERP_OTEL_ENDPOINT is set, and OpenTelemetry is not installed: pip install 'erp-service[tracing]'."
        ) from exc
    trace.set_tracer_provider(module.exporting_provider(settings.otel_endpoint, part))


def is_on() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def span(
    name: str, attributes: Mapping[str, Value], *, kind: Kind = "INTERNAL", parent: str | None = None
) -> Iterator[Span]:
    """A span that is current inside the block. `parent` is a `traceparent` (W3C Trace Context); without one, the span
    that is current outside is the parent.

    An exception that leaves the block marks the span as failed, by the exception's type: its message may hold what a
    trace must not."""
    if not is_on():
        # the API's own no-op would carry the caller's trace on, into logs and rows
        yield INVALID_SPAN
        return
    context_manager = _TRACER.start_as_current_span(
        name,
        context=_TRACE_CONTEXT.extract({"traceparent": parent}) if parent else None,
        kind=SpanKind[kind],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    )
    with context_manager as current:
        try:
            with structlog.contextvars.bound_contextvars(trace_id=format_trace_id(current.get_span_context().trace_id)):
                yield current
        except BaseException as exc:
            current.set_status(StatusCode.ERROR, type(exc).__name__)
            raise


def carrier() -> str | None:
    """The `traceparent` of the current span, with which another process continues the trace; None if there is none."""
    headers: dict[str, str] = {}
    _TRACE_CONTEXT.inject(headers)
    return headers.get("traceparent")


@contextmanager
def request(scope: Any, *, request_id: str) -> Iterator[None]:
    """The span of a request, which continues the caller's trace; named by the route's template, never by its path.

    Attributes are OpenTelemetry's for HTTP; paths, queries and bodies are left out, since they may hold secrets."""
    if not is_on():
        yield
        return
    method = scope["method"]
    parent = next((v.decode("latin-1") for n, v in scope.get("headers", ()) if n == b"traceparent"), None)
    attributes = {"http.request.method": method, "request_id": request_id}
    refusal: Refused | None = None
    with span(method, attributes, kind="SERVER", parent=parent) as current:
        scope["state"]["trace_id"] = format_trace_id(current.get_span_context().trace_id)
        try:
            yield
        except Refused as exc:
            # it is answered further out; what a caller did wrong is no failure of ours (OpenTelemetry, HTTP spans)
            refusal = exc
            scope["state"].setdefault("status", exc.status)
        finally:
            route = scope.get("path_template") or "(no route)"
            current.update_name(f"{method} {route}")
            current.set_attribute("http.route", route)
            if (status := scope["state"].get("status")) is not None:
                current.set_attribute("http.response.status_code", status)
                if status >= 500:
                    current.set_status(StatusCode.ERROR)
    if refusal is not None:
        raise refusal
