"""OpenTelemetry traces, by setting: one from the submission of an export, through the queue, to the worker's file.

Without `ERP_OTEL_ENDPOINT` nothing is loaded and a span costs nothing. The one registry of that optional library."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Literal

import structlog

from erp_service.errors import Refused
from erp_service.settings import Settings, SettingsError

Kind = Literal["INTERNAL", "SERVER", "CONSUMER"]
Value = str | int | float | bool

_loaded: dict[str, Any] = {}


def configure(settings: Settings, part: str) -> None:
    """Send spans of this process to the collector, in the background: one that is away holds up nothing.

    Raises SettingsError if the setting asks for a library that is not installed."""
    if not settings.otel_endpoint:
        return
    try:
        trace = importlib.import_module("opentelemetry.trace")
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        resources = importlib.import_module("opentelemetry.sdk.resources")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        propagation = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
    except ModuleNotFoundError as exc:
        raise SettingsError(
            "ERP_OTEL_ENDPOINT is set, and OpenTelemetry is not installed: pip install 'erp-service[tracing]'."
        ) from exc
    about = {"service.name": f"erp-{part}", "service.version": version("erp-service")}
    provider = sdk.TracerProvider(resource=resources.Resource.create(about))
    exporter = otlp.OTLPSpanExporter(endpoint=f"{settings.otel_endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    _loaded.update(
        trace=trace,
        tracer=provider.get_tracer("erp_service"),
        propagator=propagation.TraceContextTextMapPropagator(),
    )


@contextmanager
def span(
    name: str, attributes: Mapping[str, Value], *, kind: Kind = "INTERNAL", parent: str | None = None
) -> Iterator[Any]:
    """A span, current inside; `parent` is a `traceparent` (W3C Trace Context), else what is current. None if off.

    An exception that leaves it marks it as failed, by its type: messages may hold what a trace must not."""
    if not _loaded:
        yield None
        return
    trace = _loaded["trace"]
    context = _loaded["propagator"].extract({"traceparent": parent}) if parent else None
    opened = _loaded["tracer"].start_as_current_span(
        name,
        context=context,
        kind=trace.SpanKind[kind],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    )
    with opened as current:
        try:
            with structlog.contextvars.bound_contextvars(trace_id=f"{current.get_span_context().trace_id:032x}"):
                yield current
        except BaseException as exc:
            current.set_status(trace.StatusCode.ERROR, type(exc).__name__)
            raise


def note(current: Any, attributes: Mapping[str, Value]) -> None:
    """More about a span that `span` gave."""
    if current is not None:
        current.set_attributes(attributes)


def is_on() -> bool:
    return bool(_loaded)


def carrier() -> str | None:
    """The `traceparent` of the span that is current, to go on from elsewhere; None if there is none."""
    if not _loaded:
        return None
    found: dict[str, str] = {}
    _loaded["propagator"].inject(found)
    return found.get("traceparent")


@contextmanager
def request(scope: Any, *, request_id: str) -> Iterator[None]:
    """The span of a request, which goes on with the caller's trace; named by the route's template, never by its path.

    Attributes are OpenTelemetry's for HTTP; paths, queries and bodies are left out, since they may hold secrets."""
    if not _loaded:
        yield
        return
    method = scope["method"]
    sent = next((v.decode("latin-1") for n, v in scope.get("headers", ()) if n == b"traceparent"), None)
    about = {"http.request.method": method, "request_id": request_id}
    refused: Refused | None = None
    with span(method, about, kind="SERVER", parent=sent) as current:
        try:
            yield
        except Refused as exc:
            # it is answered further out; what a caller did wrong is no failure of ours (OpenTelemetry, HTTP spans)
            refused = exc
            scope["state"].setdefault("status", exc.status)
        finally:
            route = scope.get("path_template") or "(no route)"
            current.update_name(f"{method} {route}")
            current.set_attribute("http.route", route)
            if (status := scope["state"].get("status")) is not None:
                current.set_attribute("http.response.status_code", status)
                if status >= 500:
                    current.set_status(_loaded["trace"].StatusCode.ERROR)
    if refused is not None:
        raise refused
