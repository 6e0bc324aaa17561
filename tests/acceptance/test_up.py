"""`erp up` on an empty directory: everything, in the foreground, on one machine."""

import asyncio
import json
import os
import re
import signal
import stat
from pathlib import Path

import httpx

from tests.acceptance.instances import Process, erp, free_port
from tests.support.databases import connected
from tests.support.waiting import eventually

ENV = {name: value for name, value in os.environ.items() if not name.startswith("ERP_")}


def arguments(data: Path, port: int) -> list[str]:
    return ["up", "--port", str(port), "--data-dir", str(data)]


async def sign_in(url: str, password: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url) as client:
        form = {"username": "owner@example.com", "password": password}
        return await client.post("/api/v1/auth/login", data=form)


async def greeted(process: Process) -> str:
    async def look() -> str | None:
        said = process.log.read_text()
        return said if "Ctrl-C stops" in said else None

    return await eventually(look, seconds=90) or ""


async def test_up_from_nothing_to_a_download_and_a_clean_end(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    url = f"http://127.0.0.1:{port}"
    async with erp(*arguments(data, port), env=ENV, log=tmp_path / "up.log", url=url) as up:
        said = await greeted(up)
        found = re.search(r"Password\s+(\S+)", said)
        assert found
        assert said.index(f"{url}/console") < said.index(f"{url}/docs")
        assert stat.S_IMODE((data / "secrets.json").stat().st_mode) == 0o600

        token = (await sign_in(url, found[1])).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            stock = (await client.get("/api/v1/inventory/stock/current")).json()
            assert len(stock["items"]) > 20, "there is demo stock"
            job = (await client.post("/api/v1/exports/jobs", json={"dataset": "stock_movements"})).json()

            async def done() -> bool:
                return (await client.get(f"/api/v1/exports/jobs/{job['id']}")).json()["status"] == "succeeded"  # type: ignore[no-any-return]

            await eventually(done, seconds=30)
            file = await client.get(f"/api/v1/exports/jobs/{job['id']}/download")
            assert file.status_code == 200
            assert file.text.count("\n") > 100

        owner = re.search(r"ERP_MIGRATION_DATABASE_URL='?([^'\n]+)", (data / "env").read_text())
        assert owner
        async with connected(owner[1]) as db:
            rows = await db.fetch("select distinct usename, application_name like 'erp worker%' from pg_stat_activity"
                                  " where application_name like 'erp%'")  # fmt: skip
        assert {tuple(row) for row in rows} == {("erp_api", False), ("erp_worker", True)}

        second = await _refused(arguments(data, free_port()), tmp_path / "second.log")
        assert "in use" in second or "already" in second
        other = await _refused(arguments(tmp_path / "other", port), tmp_path / "third.log")
        assert f"Port {port} is not free" in other

        up.signal(signal.SIGINT)
        assert await up.ended() == 0
    assert "Stopped." in up.log.read_text()
    assert "Traceback" not in up.log.read_text()


async def _refused(command: list[str], log: Path) -> str:
    async with erp(*command, env=ENV, log=log) as process:
        assert await process.ended() == 1
    said = log.read_text()
    assert "Traceback" not in said
    return said


async def test_up_again_after_kill_9_goes_on_with_the_data_and_keeps_the_password_to_itself(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    url = f"http://127.0.0.1:{port}"
    async with erp(*arguments(data, port), "--no-demo", env=ENV, log=tmp_path / "first.log", url=url) as first:
        await greeted(first)
        password = json.loads((data / "secrets.json").read_text())["password"]
        headers = {"Authorization": f"Bearer {(await sign_in(url, password)).json()['access_token']}"}
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            made = await client.post("/api/v1/inventory/items", json={"sku": "KEPT", "name": "Kept", "unit": "PCS"})
            assert made.status_code == 201, made.text
        first.signal(signal.SIGKILL)
        await first.ended()

    async def free() -> bool:
        return not await answers_at(url)

    await eventually(free)
    async with erp(*arguments(data, port), "--no-demo", env=ENV, log=tmp_path / "second.log", url=url) as second:
        said = await greeted(second)
        assert password not in said
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            listed = (await client.get("/api/v1/inventory/items?sku=KEPT")).json()
            assert [item["sku"] for item in listed["items"]] == ["KEPT"], "the token still counts, too"
        second.signal(signal.SIGTERM)
        assert await second.ended() == 0


async def answers_at(url: str) -> bool:
    try:
        async with httpx.AsyncClient(base_url=url, timeout=1) as client:
            await client.get("/health/live")
    except httpx.TransportError:
        return False
    return True


async def test_sigterm_while_starting_leaves_nothing_running(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    async with erp(*arguments(data, port), env=ENV, log=tmp_path / "log") as up:

        async def starting() -> bool:
            return (data / "postgres").exists()

        await eventually(starting)
        up.signal(signal.SIGTERM)
        await up.ended()
    assert not await asyncio.to_thread(lambda: list((data / "postgres").rglob("postmaster.pid")))
