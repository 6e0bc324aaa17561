"""The balancer of compose.yaml before instances of this machine: HAProxy with ops/haproxy/haproxy.cfg.

Two things differ from production: the addresses of the instances are known instead of looked up by name, and the
front listens on a free port of the loopback interface."""

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import httpx

from tests.acceptance.instances import free_port
from tests.support.waiting import eventually

CONFIGURATION = Path(__file__).parents[2] / "ops" / "haproxy" / "haproxy.cfg"
LIMITS = {"REQUESTS_PER_10_SECONDS": "1000", "CONNECTIONS_PER_ADDRESS": "200"}
"""Of each client's address: the defaults of compose.yaml."""

_TEMPLATE = re.compile(r"^  server-template (\w+) \S+ api:8000 (.*?) resolvers containers .*$", re.MULTILINE)


def configuration(port: int, instances: Sequence[str]) -> str:
    """The text of HAProxy's configuration; `instances` are host:port."""

    def servers(template: re.Match[str]) -> str:
        return "\n".join(f"  server {template[1]}{n} {address} {template[2]}" for n, address in enumerate(instances, 1))

    text, backends = _TEMPLATE.subn(servers, CONFIGURATION.read_text())
    assert backends == 2, "the backends of haproxy.cfg have another form"
    text, fronts = re.subn(r"^  bind :8080$", f"  bind 127.0.0.1:{port}", text, flags=re.MULTILINE)
    assert fronts == 1, "the front of haproxy.cfg has another form"
    return text


@contextlib.asynccontextmanager
async def balanced(urls: Sequence[str], directory: Path, limits: Mapping[str, str] = LIMITS) -> AsyncIterator[str]:
    """The URL of a balancer before these instances, which are ready."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert program, "haproxy is not installed: ops/test-attacks does that"
    port = free_port()
    file, log = directory / "haproxy.cfg", directory / "haproxy.log"
    file.write_text(configuration(port, [url.removeprefix("http://") for url in urls]))
    environment = {**os.environ, **limits, "TLS_CERTIFICATE": "", "PUBLIC_URL": ""}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program, "-db", "-f", str(file), env=environment, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:

        async def ready() -> bool:
            assert process.returncode is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                async with httpx.AsyncClient(base_url=url) as client:
                    return (await client.get("/health/ready")).status_code == 200
            return False

        await eventually(ready)
        yield url
    finally:
        process.kill()
        await process.wait()
