"""The stack as it comes up, and what an outside client meets first. The tests of this folder go on from each other, in
the order of their files, on one stack.

Nothing that was acknowledged may be lost, and nothing may be there twice. Where nothing breaks, but instances and
workers come and go, no request may fail at all."""

import asyncio
import json
from urllib.parse import unquote

import httpx
import pytest

from tests.containers.books import ROWS, Say, checked, exported, load_stock
from tests.containers.clients import JOBS
from tests.containers.stack import PROJECT, CommandFailed, Stack, timed
from tests.support.waiting import eventually


async def test_one_command_brings_all_of_it_up(stack: Stack, seen: Say) -> None:
    seen(f"from `up` with an empty volume to ready: {stack.up_seconds:.1f} s")
    assert len(await stack.containers("api")) == 2
    assert len(await stack.containers("worker")) == 2

    async def migrated() -> bool:
        return not await stack.containers("migrate")

    await eventually(migrated)
    size, base = [
        int(await stack.run("podman", "image", "inspect", "--format", "{{.Size}}", image))
        for image in (stack.image, stack.env["PYTHON_IMAGE"])
    ]
    seen(f"image: {size / 1e6:.0f} MB, of which the base image {base / 1e6:.0f} MB")


async def test_containers_run_as_a_number_without_rights_or_secrets(stack: Stack) -> None:
    (api, *_) = await stack.containers("api")
    (worker, *_) = await stack.containers("worker")
    secrets = [
        (stack.secrets / name).read_text()
        for name in ("api_password", "worker_password", "owner_password", "jwt_secret")
    ]
    for name in (api, worker):
        assert (await stack.inside(name, "id", "-u")).strip() == "10001"
        with pytest.raises(CommandFailed, match="Read-only"):
            await stack.inside(name, "touch", "/opt/erp/here")
        told = json.dumps(await stack.inspect(name))
        assert not [secret for secret in secrets if secret in told]
    own = {"api": ["database_url", "jwt_secret", "replica_url"], "worker": ["replica_url", "worker_database_url"]}
    assert (await stack.inside(api, "ls", "/run/secrets")).split() == own["api"]
    assert (await stack.inside(worker, "ls", "/run/secrets")).split() == own["worker"]
    for program in ("gcc", "cc", "make", "curl", "/opt/erp/bin/pip"):
        with pytest.raises(CommandFailed):
            await stack.inside(api, "which", program)
    connected = "select string_agg(distinct usename, ' ') from pg_stat_activity where application_name like"
    assert await stack.sql(f"{connected} 'erp%'") == "erp_api erp_worker"
    assert await stack.sql(f"{connected} 'erp worker%'") == "erp_worker"
    assert await stack.sql("select tableowner from pg_tables where tablename = 'items'") == "erp_owner"


async def test_image_says_what_is_in_it(stack: Stack, seen: Say) -> None:
    (api, *_) = await stack.containers("api")
    document = json.loads(await stack.inside(api, "cat", "/usr/share/erp/sbom.cdx.json"))
    assert (document["bomFormat"], document["metadata"]["component"]["name"]) == ("CycloneDX", "erp-service")
    purls = [component["purl"].partition("?")[0] for component in document["components"]]
    listed = {kind: dict(purl.split("/")[-1].split("@") for purl in purls if purl.startswith(f"pkg:{kind}/"))
              for kind in ("pypi", "deb")}  # fmt: skip
    code = "from importlib.metadata import distributions; [print(d.name, d.version) for d in distributions()]"
    installed = dict(line.split() for line in (await stack.inside(api, "python3", "-c", code)).splitlines())
    del installed["erp-service"]
    assert {name.lower().replace("_", "-"): version for name, version in installed.items()} == listed["pypi"]
    of_system = (await stack.inside(api, "dpkg-query", "--show", "--showformat=${Package} ${Version}\n")).splitlines()
    system = dict(line.split() for line in of_system)
    assert {unquote(name): unquote(version) for name, version in listed["deb"].items()} == system
    seen(f"lists {len(installed)} packages of Python and {len(system)} of the system")


async def test_process_that_waits_for_its_database_ends_when_it_is_told_to(stack: Stack, seen: Say) -> None:
    name = f"{PROJECT}_waiting"
    label = f"--label=com.docker.compose.project={PROJECT}"
    address = "ERP_DATABASE_URL=postgresql://nobody@127.0.0.1/nowhere"
    await stack.run("podman", "run", "--detach", "--name", name, label, "--env", address, stack.image, "worker")
    await asyncio.sleep(5)
    async with timed() as took:
        await stack.run("podman", "stop", "--time", "60", name)
    assert (await stack.inspect(name))["State"]["ExitCode"] == 143
    assert took[0] < 30
    seen(f"a worker without a database stopped in {took[0]:.1f} s")


async def test_stock_is_loaded_exported_and_downloaded(stack: Stack, client: httpx.AsyncClient, seen: Say) -> None:
    for number in range(4):
        body = {"sku": f"LOAD-{number}", "name": f"Posted {number}", "unit": "PCS"}
        assert (await client.post("/api/v1/inventory/items", json=body)).status_code == 201
    place = {"code": "LOAD", "name": "Where clients post", "location_type": "WAREHOUSE"}
    assert (await client.post("/api/v1/inventory/locations", json=place)).status_code == 201
    (api, *_) = await stack.containers("api")
    async with timed() as took:
        await load_stock(stack, api)
    seen(f"{ROWS:,} movements imported in {took[0]:.1f} s")

    async with timed() as took:
        job = await exported(client, dataset="stock_movements")
    assert job["result"]["rows"] == ROWS
    seen(f"exported in {took[0]:.1f} s: {job['result']['bytes'] / 1e6:.0f} MB")
    link = f"{JOBS}/{job['id']}/download"
    async with timed() as took:
        whole = (await client.get(link)).content
    seen(f"downloaded through the balancer in {took[0]:.2f} s")
    assert len(whole) == job["result"]["bytes"]
    some = await client.get(
        link, headers={"Range": "bytes=1000000-1999999", "If-Range": f'"{job["result"]["sha256"]}"'}
    )
    assert some.status_code == 206
    assert some.content == whole[1_000_000:2_000_000]


async def test_large_file_to_import_passes_the_balancer(stack: Stack, client: httpx.AsyncClient, seen: Say) -> None:
    """Larger than other bodies may be. The worker that checks it has less memory for /tmp."""
    async with timed() as took:
        size = await checked(client, 10_000)
    seen(f"{size / 1e6:.0f} MB to import were sent and checked in {took[0]:.1f} s")


async def test_balancer_trusts_nobody_and_limits_what_comes_in(stack: Stack, client: httpx.AsyncClient) -> None:
    for path in ("/metrics", "//metrics", "/%6detrics", "/metrics/"):
        assert (await client.get(path)).status_code == 404
    # said before it is sent: whoever sends it all the same may find the connection closed under it
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(stack.url).port)
    writer.write(b"POST /api/v1/inventory/stock/in HTTP/1.1\r\nHost: erp\r\nContent-Length: 1048577\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"413"
    writer.close()
    await writer.wait_closed()
    body = {"username": "nobody@example.com", "password": "wrong-Pass-word-1"}
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Request-Id": "from-outside-1"}
    answer = await client.post("/api/v1/auth/login", data=body, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["X-Request-Id"] == "from-outside-1"
    told = await stack.sql("select string_agg(distinct key, ' ') from rate_limits")
    assert "203.0.113.9" not in told
    assert (await client.get("/health/live", headers={"X-Request-Id": "<script>"})).headers[
        "X-Request-Id"
    ] != "<script>"
