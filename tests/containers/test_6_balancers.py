"""The balancer with a certificate, and nginx in its place, which sends files by itself."""

import hashlib
import ssl
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from tests.containers.books import checked, exported
from tests.containers.clients import JOBS
from tests.containers.stack import PROJECT, Stack
from tests.support.waiting import eventually

PREFIX = "/-/exports"
FILES = {"haproxy": ["compose.yaml"], "nginx": ["compose.yaml", "ops/nginx/compose.yaml"]}


@pytest.fixture(params=["haproxy", "nginx"])
async def encrypted(stack: Stack, request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    before = dict(stack.env), list(stack.files)
    pem = stack.secrets / "tls" / "site.pem"
    key = pem.with_name("key")
    await stack.run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem),
    )  # fmt: skip
    pem.write_text(pem.read_text() + key.read_text())
    stack.env |= {"ERP_TLS_CERTIFICATE": "/etc/tls/site.pem", "ERP_PUBLIC_URL": stack.tls_url}
    stack.files = FILES[request.param]
    await stack.anew("balancer")
    yield stack
    stack.env, stack.files = before


async def test_certificate_brings_redirects_and_strict_transport(encrypted: Stack) -> None:
    stack = encrypted
    authority = ssl.create_default_context(cafile=str(stack.secrets / "tls" / "site.pem"))
    async with httpx.AsyncClient(verify=authority, timeout=10) as client:

        async def ready() -> bool:
            try:
                return (await client.get(f"{stack.tls_url}/health/ready")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(ready, seconds=30)
        told = await client.get(f"{stack.tls_url}/health/ready")
        assert told.headers["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains"
        sent_on = await client.get(f"{stack.url}/docs?x=1", headers={"Host": "evil.example"})
        assert sent_on.status_code == 308
        assert sent_on.headers["Location"] == f"{stack.tls_url}/docs?x=1"
        # a program would send its token unencrypted for ever
        refused = await client.get(f"{stack.url}/api/v1/auth/me?x=1")
        assert (refused.status_code, refused.json()["title"]) == (403, "This needs https")


async def test_nginx_sends_files_of_the_shared_volume_by_itself(stack: Stack, seen: Callable[[str], None]) -> None:
    stack.env["ERP_OFFLOAD"] = PREFIX
    stack.files = FILES["nginx"]
    await stack.anew("balancer", "api")
    await eventually(stack.answers, seconds=60)
    headers = {"Authorization": f"Bearer {await stack.sign_in()}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client:
        job = await exported(client, dataset="stock_movements")
        link, tag = f"{JOBS}/{job['id']}/download", f'"{job["result"]["sha256"]}"'
        whole = await client.get(link)
        assert hashlib.sha256(whole.content).hexdigest() == job["result"]["sha256"]
        for name, value in (("ETag", tag), ("Content-Type", job["result"]["media_type"])):
            assert whole.headers.get_list(name) == [value]
        assert "Repr-Digest" in whole.headers
        assert "X-Accel-Redirect" not in whole.headers
        assert job["result"]["filename"] in whole.headers["Content-Disposition"]
        some = await client.get(link, headers={"Range": "bytes=1000-1999", "If-Range": tag})
        assert (some.status_code, some.content) == (206, whole.content[1000:2000])
        assert some.headers["Content-Range"] == f"bytes 1000-1999/{len(whole.content)}"
        other = await client.get(link, headers={"Range": "bytes=1000-1999", "If-Range": '"other"'})
        assert (other.status_code, len(other.content)) == (200, len(whole.content))
        assert (await client.get(link, headers={"If-None-Match": tag})).status_code == 304
        assert (await client.head(link)).headers["Content-Length"] == str(len(whole.content))
        # a file to import may be larger than other bodies
        await checked(client, 500)
        # its own place cannot be asked for
        assert (await client.get(f"{PREFIX}/whole/{job['id']}.1.csv")).status_code == 404
        assert (await client.get(link, headers={"Authorization": ""})).status_code == 401
    told = await stack.run("podman", "logs", f"{PROJECT}_balancer_1")
    assert "/-/exports/whole/" in told
    seen(f"{len(whole.content) / 1e6:.0f} MB by nginx itself, whole and in part")
