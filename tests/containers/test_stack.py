"""What a deployment goes through, in order, on one stack and as an outside client. Each test goes on from the last.

Nothing that was acknowledged may be lost, and nothing may be there twice. Where nothing breaks, but instances and
workers come and go, no request may fail at all."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import eventually
from tests.containers.clients import FINAL, JOBS, Load
from tests.containers.stack import PROJECT, CommandFailed, Stack, timed

Say = Callable[[str], None]

ROWS = 150_000
"""In the ledger: enough for an export to be met in the middle."""

NOTES = "said at length so that the file is a large one; " * 5

POSTED: Counter[str] = Counter()
"""What was acknowledged to all clients of all tests."""

EXPORTED: list[str] = []


@pytest.fixture(scope="session")
async def token(stack: Stack) -> str:
    return await stack.sign_in()


@pytest.fixture
async def client(stack: Stack, token: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
async def file(stack: Stack, token: str) -> tuple[str, str]:
    """A large export, by its id and digest."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client:
        job = await exported(client, dataset="stock_movements")
    return job["id"], job["result"]["sha256"]


async def exported(client: httpx.AsyncClient, **spec: object) -> dict[str, Any]:
    answer = await client.post(JOBS, json={"force_new": True, **spec})
    assert answer.status_code == 202, answer.text
    job = await final(client, answer.json()["id"])
    assert job["status"] == "succeeded", job
    return job


async def final(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        job: dict[str, Any] = (await client.get(f"{JOBS}/{job_id}")).json()
        return job if job["status"] in FINAL else None

    found = await eventually(look, seconds=90)
    assert found is not None
    return found


async def proven(stack: Stack, load: Load) -> str:
    """No client has anything to complain of, and the books hold exactly what was acknowledged."""
    assert not load.failures, load.failures[:5]
    POSTED.update(load.posted)
    EXPORTED.extend(load.exports)
    rows = await stack.sql(
        "select coalesce(json_object_agg(sku, on_hand::bigint), '{}') from items join stock_balances on item_id = id"
        " where sku like 'LOAD-%'"
    )
    assert json.loads(rows) == dict(POSTED)
    twice = await stack.sql(
        "select count(*) from (select from audit_log where action = 'export.succeeded' group by entity_id"
        " having count(*) > 1) twice"
    )
    assert twice == "0"
    return ", ".join(f"{count:,} {what}" for what, count in sorted(load.counts.items())) + f"; {load.slowest()}"


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
    secrets = [(stack.secrets / name).read_text() for name in ("app_password", "owner_password", "jwt_secret")]
    for name in (api, worker):
        assert (await stack.inside(name, "id", "-u")).strip() == "10001"
        with pytest.raises(CommandFailed, match="Read-only"):
            await stack.inside(name, "touch", "/opt/erp/here")
        told = json.dumps(await stack.inspect(name))
        assert not [secret for secret in secrets if secret in told]
    for program in ("gcc", "cc", "make", "curl", "/opt/erp/bin/pip"):
        with pytest.raises(CommandFailed):
            await stack.inside(api, "which", program)
    (database_user,) = {await stack.sql("select distinct usename from pg_stat_activity where application_name = 'erp'")}
    assert database_user == "erp_app"
    assert await stack.sql("select tableowner from pg_tables where tablename = 'items'") == "erp_owner"


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


async def load_stock(stack: Stack, api: str) -> None:
    items = "sku,name,unit\n" + "".join(f"BULK-{n},Item {n},PCS\n" for n in range(500))
    lines = (f"2026-01-{1 + n * 28 // ROWS:02}T08:00:00Z,IN,BULK-{n % 500},LOAD,3,1.25,{NOTES}\n" for n in range(ROWS))
    movements = "occurred_at,type,sku,location,quantity,unit_cost,notes\n" + "".join(lines)
    await stack.inside(api, "erp", "import", "items", "-", stdin=items.encode())
    await stack.inside(api, "erp", "import", "movements", "-", stdin=movements.encode())


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


async def test_killed_instance_loses_and_doubles_nothing(stack: Stack, token: str, seen: Say, file: Any) -> None:
    load = Load(stack.url, token, patient=True, file=file)
    async with load.going_on():
        await asyncio.sleep(3)
        (first, *_) = await stack.containers("api")
        await stack.kill(first)
        await asyncio.sleep(5)

        async def back() -> bool:
            return len(await stack.containers("api")) == 2

        await eventually(back, seconds=60)
        await asyncio.sleep(3)
    seen(await proven(stack, load))
    assert load.counts["POST answered"] > 50


async def test_killed_worker_has_its_export_done_by_another(stack: Stack, client: httpx.AsyncClient, seen: Say) -> None:
    addresses: dict[str, int] = {}
    for name in await stack.containers("worker"):
        told = await stack.inspect(name)
        addresses |= {net["IPAddress"]: told["State"]["Pid"] for net in told["NetworkSettings"]["Networks"].values()}
    answer = await client.post(JOBS, json={"dataset": "stock_movements", "sort": "-id", "force_new": True})
    job_id = answer.json()["id"]

    async def holder() -> str:
        return await stack.sql(
            "select host(client_addr) from pg_stat_progress_copy join pg_stat_activity using (pid) limit 1"
        )

    process = addresses[await eventually(holder)]
    async with timed() as took:
        os.kill(process, signal.SIGKILL)
        job = await final(client, job_id)
    assert job["status"] == "succeeded"
    assert job["attempt"] == 2
    assert (await client.get(f"{JOBS}/{job_id}/download")).status_code == 200
    seen(f"killed in the middle of a COPY, done by another {took[0]:.1f} s later")


async def test_scaling_up_and_down_fails_no_request(stack: Stack, token: str, seen: Say, file: Any) -> None:
    load = Load(stack.url, token, patient=False, file=file)
    async with load.going_on():
        async with timed() as up:
            await stack.run("ops/scale", "api=5", "worker=4")
        assert len(await stack.containers("api")) == 5
        await asyncio.sleep(3)
        async with timed() as down:
            await stack.run("ops/scale", "api=2", "worker=2")
    assert len(await stack.containers("api")) == 2
    assert len(await stack.containers("worker")) == 2
    seen(f"api 2 -> 5, worker 2 -> 4 in {up[0]:.0f} s; back in {down[0]:.0f} s")
    seen(await proven(stack, load))


@pytest.fixture(scope="session")
async def next_release(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """An image whose migrations expand the schema."""
    directory = Path(tmp_path_factory.mktemp("next"))
    head = await stack.sql("select version_num from alembic_version")
    (directory / "9999_next.py").write_text(
        f'from alembic import op\n\nrevision = "9999"\ndown_revision = "{head}"\n\n\ndef upgrade() -> None:\n'
        '    op.execute("alter table items add column next_note text")\n'
    )
    move = (
        "import pathlib, shutil, erp_service;"
        "shutil.move('/tmp/9999_next.py', pathlib.Path(erp_service.__file__).parent / 'migrations/versions')"
    )
    (directory / "Containerfile").write_text(
        f'FROM {stack.image}\nUSER 0\nCOPY 9999_next.py /tmp/\nRUN python -c "{move}"\nUSER 10001:10001\n'
        "LABEL org.opencontainers.image.version=next\n"
    )
    image = f"localhost/{PROJECT}:next"
    await stack.run("podman", "build", "--quiet", "--tag", image, str(directory))
    yield image
    await stack.down()
    await stack.run("podman", "image", "rm", "--force", image)


async def test_rolling_a_release_fails_no_request(
    stack: Stack, token: str, client: httpx.AsyncClient, seen: Say, file: Any, next_release: str
) -> None:
    load = Load(stack.url, token, patient=False, file=file)
    long = await client.post(JOBS, json={"dataset": "stock_movements", "sort": "-id", "force_new": True})
    assert long.status_code == 202, long.text
    both: Counter[frozenset[str]] = Counter()

    async def watch() -> None:
        while True:
            both[frozenset(await stack.versions("api"))] += 1
            await asyncio.sleep(0.5)

    async with load.going_on():
        await asyncio.sleep(2)
        watching = asyncio.create_task(watch())
        async with timed() as took:
            await stack.run("ops/roll", next_release)
        watching.cancel()
        await asyncio.sleep(2)
    assert set(await stack.versions("api")) == set(await stack.versions("worker")) == {"next"}
    assert max(len(versions) for versions in both) == 2, "old and new never served at once"
    assert (await final(client, long.json()["id"]))["status"] == "succeeded"
    assert (await stack.sql("select version_num from alembic_version")) == "9999"
    seen(f"two instances and two workers in {took[0]:.0f} s")
    seen(await proven(stack, load))


async def test_release_that_never_gets_ready_ends_the_roll_and_the_old_goes_on(
    stack: Stack, token: str, seen: Say, tmp_path: Path, next_release: str
) -> None:
    (tmp_path / "Containerfile").write_text(
        f"FROM {next_release}\nENV ERP_EXPORT_STORE=file:///tmp/elsewhere\n"
        "LABEL org.opencontainers.image.version=broken\n"
        'ENTRYPOINT ["python", "-c", "import sys, time; time.sleep(600) if sys.argv[1] == \'serve\' else None"]\n'
    )
    image = f"localhost/{PROJECT}:broken"
    await stack.run("podman", "build", "--quiet", "--tag", image, str(tmp_path))
    load = Load(stack.url, token, patient=False)
    try:
        async with load.going_on(posters=2, readers=1):
            with pytest.raises(CommandFailed, match="is not ready"):
                await stack.run("ops/roll", image, ERP_READY_SECONDS="6", ERP_STOP_SECONDS="40")
        assert sorted(await stack.versions("api")) == ["broken", "next"]
    finally:
        # the runbook's way back
        await stack.run("ops/roll", stack.image, ERP_STOP_SECONDS="30")
        await stack.run("podman", "image", "rm", "--force", image)
    assert "broken" not in await stack.versions("api") + await stack.versions("worker")
    assert await stack.sql("select version_num from alembic_version") == "9999"
    seen(await proven(stack, load))


async def test_database_away_for_ten_seconds_loses_and_doubles_nothing(
    stack: Stack, token: str, client: httpx.AsyncClient, seen: Say, file: Any
) -> None:
    answer = await client.post(JOBS, json={"dataset": "stock_movements", "sort": "-id", "force_new": True})
    assert answer.status_code == 202, answer.text
    load = Load(stack.url, token, patient=True, file=file)
    (db,) = await stack.containers("db")
    async with load.going_on():
        await asyncio.sleep(1)
        await stack.run("podman", "stop", "--time", "60", db)
        await asyncio.sleep(10)
        assert await stack.answers("/health/live"), "liveness must not need the database"
        assert not await stack.answers("/health/ready")
        await stack.run("podman", "start", db)
        async with timed() as took:
            await eventually(stack.answers, seconds=60)
        await asyncio.sleep(3)
    job = await final(client, answer.json()["id"])
    assert job["status"] == "succeeded"
    seen(f"ready {took[0]:.1f} s after the database was started; the export that it met took {job['attempt']} attempts")
    seen(await proven(stack, load))


async def test_books_hold_and_every_export_is_there_once(stack: Stack, seen: Say) -> None:
    (api, *_) = await stack.containers("api")
    # ends with another status than 0, which is CommandFailed, if anything is at fault
    await stack.inside(api, "erp", "verify")
    rows = await stack.sql("select id from export_jobs where dataset = 'locations' and status = 'succeeded'")
    assert sorted(rows.split()) == sorted(EXPORTED)
    seen(f"{sum(POSTED.values()):,} postings and {len(EXPORTED):,} exports acknowledged, each there once")
