"""One trace from the submission through the queue to the file, as a collector receives it."""

import asyncio
import contextlib
import gzip
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.observability import tracing
from erp_service.settings import Settings, SettingsError
from tests.acceptance.instances import free_port, instance, signed_in, worker
from tests.support.users import make_user
from tests.support.waiting import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@contextlib.asynccontextmanager
async def collector(port: int) -> AsyncIterator[list[tuple[str, Any]]]:
    """The spans that arrive over OTLP/HTTP, as (service, span)."""
    spans: list[tuple[str, Any]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                if b"content-encoding: gzip" in head:
                    body = gzip.decompress(body)
                sent = ExportTraceServiceRequest.FromString(body)
                for of_resource in sent.resource_spans:
                    service = next(a for a in of_resource.resource.attributes if a.key == "service.name")
                    of_scopes = [span for scope in of_resource.scope_spans for span in scope.spans]
                    spans.extend((service.value.string_value, span) for span in of_scopes)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", port):
        yield spans


async def test_one_trace_from_the_submission_to_the_file(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    port = free_port()
    on = {"ERP_OTEL_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    user = await make_user(database, Role.VIEWER)
    async with (
        collector(port) as spans,
        instance(settings, tmp_path / "api.log", **on) as process,
        worker(settings, tmp_path / "worker.log", ERP_LOG_LEVEL="info", ERP_LOG_FORMAT="json", **on),
        signed_in(process, settings, user) as client,
    ):
        sent = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        submitted = await client.post("/api/v1/exports/jobs", json={"dataset": "items"}, headers=sent)
        assert submitted.status_code == 202, submitted.text

        async def whole() -> dict[str, Any]:
            named = {f"{service}: {span.name}": span for service, span in spans if span.trace_id.hex() == TRACE}
            return named if "erp-worker: export" in named else {}

        trace = await eventually(whole)
        secret = client.headers["Authorization"].encode()
    assert set(trace) == {
        "erp-api: POST /api/v1/exports/jobs",
        "erp-worker: export",
        "erp-worker: write the file",
    }
    submission, export = trace["erp-api: POST /api/v1/exports/jobs"], trace["erp-worker: export"]
    assert submission.parent_span_id.hex() == "00f067aa0ba902b7"
    assert export.parent_span_id == submission.span_id
    assert trace["erp-worker: write the file"].parent_span_id == export.span_id
    assert {a.key: a.value.int_value for a in submission.attributes}["http.response.status_code"] == 202
    assert not any(secret in span.SerializeToString() for _, span in spans)
    assert f'"trace_id": "{TRACE}"' in (tmp_path / "worker.log").read_text()


RECORD = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from erp_service import errors
from erp_service.observability import tracing

spans, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
for kind in (errors.Unauthorized, errors.Unavailable):
    try:
        with tracing.request({"method": "GET", "path_template": "/x", "state": {}}, request_id="1"):
            raise kind
    except kind:
        span = spans.get_finished_spans()[-1]
        print(span.name, span.attributes["http.response.status_code"], span.status.status_code.name)
"""


def test_request_that_is_refused_is_no_failure_of_the_service() -> None:
    """Requests with bad tokens are the client's fault and must not count as errors of the service.

    In a process of its own, since a process can install one provider only."""
    done = subprocess.run([sys.executable, "-c", RECORD], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["GET /x 401 UNSET", "GET /x 503 ERROR"], done.stderr


async def test_collector_that_is_away_holds_up_nothing(settings: Settings, database: Database, tmp_path: Path) -> None:
    on = {"ERP_OTEL_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    user = await make_user(database, Role.VIEWER)
    async with instance(settings, tmp_path / "log", **on) as process, signed_in(process, settings, user) as client:
        for _ in range(20):
            assert (await client.get("/api/v1/inventory/items")).status_code == 200
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0


def test_setting_without_the_library_is_said_at_the_start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.delitem(sys.modules, "erp_service.observability.trace_export", raising=False)
    with pytest.raises(SettingsError, match="erp-service\\[tracing\\]"):
        tracing.configure(replace(settings, otel_endpoint="http://127.0.0.1:4318"), "api")


def test_while_tracing_is_off_the_caller_s_trace_is_not_carried_on() -> None:
    sent = f"00-{TRACE}-00f067aa0ba902b7-01"
    scope: dict[str, Any] = {"method": "GET", "state": {}, "headers": [(b"traceparent", sent.encode())]}
    with tracing.request(scope, request_id="1"), tracing.span("write the file", {}, parent=sent) as span:
        span.set_attributes({"rows": 1})
        assert tracing.carrier() is None
        assert "trace_id" not in structlog.contextvars.get_contextvars()
