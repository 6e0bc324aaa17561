"""The console's operations in headless Chromium: the cluster while a worker dies, and many jobs at once."""

from pathlib import Path

import asyncpg
from selenium.webdriver import Chrome

from erp_service.db.engine import Database
from erp_service.operations.state.record import record_verification
from erp_service.queue.jobs import defer
from erp_service.settings import Settings
from tests.acceptance.instances import Process, instance, worker
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import walked


async def test_instances_and_a_worker_are_seen_and_the_worker_while_it_dies(
    stocked: Settings, service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await record_verification(stocked, seconds=2, proofs=30, failed=0)
    await owner.execute(
        "insert into operation_runs (kind, ok, ended_at, seconds, bytes, place) values"
        " ('dump', true, now() - interval '3 h', 9, 1234567, 'vault:/backups/20261123T020000Z-dump'),"
        " ('base', false, now() - interval '2 h', 9, null, 'vault:/backups')"
    )

    def look(page: ConsolePage) -> None:
        page.open("/operations")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Cluster")
        page.until(lambda: "2\n" in figure(page, "Instances"))
        page.until(lambda: [row for row in page.all("table tr") if "alive" in row.text])
        assert [each.text for each in page.all(".verdict.worry")] == ["Look here:\nfailed 2 hours ago"]
        assert "The books held" in page.text()
        assert "3 hours ago, 1.2 MB" in page.text()
        page.chrome.execute_script("document.querySelector('.scroll').focus()")

    def die(page: ConsolePage) -> None:
        page.until(lambda: [row for row in page.all("table tr") if "gone" in row.text])
        page.until(lambda: "0\n" in figure(page, "Workers"))
        assert page.chrome.execute_script("return document.activeElement.className") == "scroll", "the focus stays"
        page.open()
        page.until_text("1 worker is gone")
        page.until_text("Base backup: failed 2 hours ago")

    async with instance(stocked, tmp_path / "log2"), worker(stocked, tmp_path / "worker") as process:
        await walked(browser, service.url, tmp_path, look)
        process.process.kill()
        await process.ended()
        await walked(browser, service.url, tmp_path, die)


def figure(page: ConsolePage, name: str) -> str:
    return next((f"{each.text}\n" for each in page.all(".figures > div") if name in each.text), "")


async def failed_jobs(database: Database, owner: asyncpg.Connection) -> list[int]:
    """Three of one task, one of another."""
    jobs = []
    for task in ("count", "count", "count", "clean"):
        async with database.write() as db:
            jobs.append(await defer(db, task, queue="work", arguments={}))
    await owner.execute("update procrastinate_jobs set status = 'doing'")
    await owner.execute("select procrastinate_finish_job_v1(id, 'failed', false) from procrastinate_jobs")
    return jobs


async def test_failed_jobs_are_filtered_and_two_tried_again_at_once_and_one_of_them_cancelled(
    service: Process, browser: Chrome, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    one, two, three, _ = await failed_jobs(database, owner)

    def walk(page: ConsolePage) -> None:
        page.open("/operations/jobs")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Jobs")
        page.until(lambda: len(boxes(page)) == 4)
        page.field("task").send_keys("count\n")
        page.until(lambda: len(boxes(page)) == 3)
        assert page.chrome.current_url.endswith("/operations/jobs?task=count")
        page.one("thead input").click()
        page.one(f"input[value='{three}']").click()
        button(page, "Retry selected (2)").click()
        page.until_text(f"{two}: tried again")
        page.until(lambda: boxes(page) == {str(one), str(two), str(three)})
        page.one(f"tr[data-key='{two}'] input").click()
        button(page, "Cancel selected (1)").click()
        page.one("dialog .primary").click()
        page.until_text(f"{two}: cancelled")
        page.until(lambda: boxes(page) == {str(one), str(three)})

    await walked(browser, service.url, tmp_path, walk)
    statuses = await owner.fetch("select status::text from procrastinate_jobs where task_name = 'count' order by id")
    assert [row["status"] for row in statuses] == ["todo", "cancelled", "failed"]
    entries = await owner.fetch(
        "select action, entity_id, email from audit_log join users u on u.id = user_id where entity = 'job'"
        " order by action, entity_id"
    )
    assert [tuple(entry) for entry in entries] == [
        ("job.canceled", str(two), EMAIL),
        ("job.retried", str(one), EMAIL),
        ("job.retried", str(two), EMAIL),
    ]


def boxes(page: ConsolePage) -> set[str]:
    return {str(each.get_attribute("value")) for each in page.all("tbody input")}


def button(page: ConsolePage, text: str):  # type: ignore[no-untyped-def]
    return page.until(lambda: [each for each in page.all("button") if each.text == text and each.is_enabled()])[0]
