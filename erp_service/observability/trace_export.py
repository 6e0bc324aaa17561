"""The SDK of OpenTelemetry, which sends spans to a collector. It is the extra `tracing`, so only tracing.py loads this
module: by name, and where the setting asks for it."""

from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def exporting_provider(endpoint: str, part: str) -> TracerProvider:
    """Spans go to `endpoint` over OTLP/HTTP from a background thread, each request with a timeout of 5 s."""
    attributes = {"service.name": f"erp-{part}", "service.version": version("erp-service")}
    provider = TracerProvider(resource=Resource.create(attributes))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
