"""What the profile `backup` says of itself."""

from tests.containers.stack import CommandFailed, Stack

METRICS = "import urllib.request; print(urllib.request.urlopen('http://backup:9100/metrics.txt').read().decode())"
KEPT_UNTIL = "erp_backup_log_kept_until_timestamp_seconds"


async def metrics(stack: Stack) -> dict[str, float] | None:
    """What Prometheus would scrape, from its network; None if podman's name server did not answer."""
    (worker, *_) = await stack.containers("worker")
    try:
        lines = (await stack.inside(worker, "python", "-c", METRICS)).splitlines()
    except CommandFailed:
        return None
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line)}


async def wal_archived(stack: Stack, until: float) -> bool:
    """Whether the database can be restored to this time, in seconds since 1970."""
    values = await metrics(stack)
    return values is not None and values.get(KEPT_UNTIL, 0.0) > until
