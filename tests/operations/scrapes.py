"""What an instance says at /metrics."""

import httpx
from prometheus_client.parser import text_string_to_metric_families


def values(body: str) -> dict[str, float]:
    """The samples without labels."""
    families = text_string_to_metric_families(body)
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


async def scraped(client: httpx.AsyncClient) -> dict[str, float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return values(answer.text)
