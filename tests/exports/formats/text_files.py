"""Text exports: made, downloaded and read back."""

from datetime import UTC, datetime
from typing import Any

import httpx

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats.base import About
from erp_service.exports.formats.registry import FORMATS
from erp_service.exports.planning.selection import Spec, query
from erp_service.exports.run.snapshot import open_snapshot
from erp_service.settings import Settings
from tests.exports.jobs import JOBS


async def downloaded(client: httpx.AsyncClient, job: dict[str, Any]) -> bytes:
    assert job["status"] == "succeeded", job
    answer = await client.get(f"{JOBS}/{job['id']}/download")
    assert answer.status_code == 200
    assert len(answer.content) == job["result"]["bytes"]
    return answer.content


async def written(settings: Settings, dataset: str, spec: Spec, format_: str) -> bytes:
    """The file's bytes, made without a worker."""
    held = bytearray()

    async def sink(data: bytes) -> None:
        held.extend(data)

    asked, chosen = query(DATASETS[dataset], spec, FORMATS[format_].select), FORMATS[format_]
    about = About(dataset, "", datetime.now(UTC))
    async with open_snapshot(settings.listen_url, most_parts=1) as snapshot:
        encoder = chosen.encoder(asked.columns, spec.options, sink, about)
        await encoder.begin()
        rows = await snapshot.copy(asked, encoder.write, chosen.copy(spec.options))
        await encoder.finish(rows)
    return bytes(held)
