"""Runs receipt.sql under pgbench, with as many clients as wrk has connections."""

import asyncio
import re
from pathlib import Path

from erp_service.standalone.postgres import Cluster
from tests.bench.load import CONNECTIONS, NotMeasured
from tests.bench.stage import Data

PGBENCH = "pgbench"
_SCRIPT = Path(__file__).with_name("receipt.sql")


async def receipts(cluster: Cluster, data: Data, seconds: float, *, items: int) -> float:
    """Transactions a second, over so many items. Raises NotMeasured if one of them failed."""
    program = [str(cluster.bin / "pgbench"), "--no-vacuum", "--protocol", "prepared", "--client", str(CONNECTIONS)]
    program += ["--jobs", "1", "--time", str(max(1, round(seconds))), "--file", str(_SCRIPT)]
    program += ["--define", "first=1", "--define", f"last={items}", cluster.app_url(data.name)]
    process = await asyncio.create_subprocess_exec(
        *program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = (text.decode() for text in await process.communicate())
    rate = re.search(r"^tps = ([0-9.]+)", output, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: ([0-9]+)", output, re.MULTILINE)
    if process.returncode or rate is None or failed is None or int(failed[1]):
        raise NotMeasured(f"pgbench ended with {process.returncode}: {errors.strip()[-500:]}")
    return float(rate[1])
