"""The console in headless Chromium: Today, exports in motion, and a network or files that are away for a while."""

from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from selenium.webdriver import Chrome

from erp_service.settings import Settings
from tests.acceptance.instances import Process, worker
from tests.browser.beside import submit_export
from tests.browser.chromium import network_events
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import walked

MOST_REQUESTS, MOST_BYTES = 6, 60_000


async def test_an_export_is_watched_from_today_to_its_end_while_its_worker_is_killed(
    stocked: Settings, service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    def submit(page: ConsolePage) -> None:
        page.open()
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Today")
        submit_export(service.url)
        page.until(lambda: page.all(".export .queued"))

    await walked(browser, service.url, tmp_path, submit)
    async with worker(stocked, tmp_path / "worker") as first, owner.transaction():
        # its rows cannot be read yet: the export runs and does not end
        await owner.execute("lock table stock_ledger in access exclusive mode")
        await walked(browser, service.url, tmp_path, lambda page: page.one(".export .running"))
        first.process.kill()
        await first.ended()

    def download(page: ConsolePage) -> None:
        where = {"behavior": "allow", "downloadPath": str(tmp_path / "files")}
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
        page.one(".export .succeeded")
        page.until(lambda: [each for each in page.all(".export button") if each.text == "Download"])[0].click()
        page.until(lambda: list((tmp_path / "files").glob("*.csv")))
        page.save(tmp_path / "screenshots" / "today-with-an-export.png")

    async with worker(stocked, tmp_path / "worker2"):
        await walked(browser, service.url, tmp_path, download)
    row = await owner.fetchrow("select attempt, result_rows as rows from export_jobs")
    assert row is not None
    assert row["attempt"] > 1
    (file,) = (tmp_path / "files").glob("*.csv")
    assert len(file.read_text().splitlines()) == row["rows"] + 1


async def test_an_export_that_waits_can_be_cancelled_from_today(
    service: Process, browser: Chrome, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> None:
        page.open()
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Today")
        submit_export(service.url)
        page.until(lambda: page.all(".export .queued"))
        page.one(".export button").click()
        page.one(".export .canceled")
        assert not page.all(".export button")

    await walked(browser, service.url, tmp_path, walk)


async def test_today_needs_few_requests_and_goes_on_when_the_network_comes_back(
    service: Process, browser: Chrome, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> tuple[list[str], int]:
        page.open()
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Today")
        page.until_preloaded()
        network_events(browser)
        page.open()
        page.one("dl.figures")
        page.settle()
        return over_the_wire(browser)

    requests, size = await walked(browser, service.url, tmp_path, walk)
    assert len(requests) <= MOST_REQUESTS, requests
    assert size <= MOST_BYTES

    def cut(page: ConsolePage) -> None:
        page.cut_network(cut=True)
        page.until_text("No network")
        page.one("a[href$='/stock/low']").click()
        page.until_text("does not answer")
        page.cut_network(cut=False)
        page.until(lambda: "No network" not in page.text())
        page.until(lambda: page.all("main table tbody tr"))

    await walked(browser, service.url, tmp_path, cut)


def over_the_wire(chrome: Chrome) -> tuple[list[str], int]:
    """The requests since the last call that no cache has answered, and the bytes of all answers."""
    events = network_events(chrome)
    cached = {p["requestId"] for name, p in events if name == "Network.requestServedFromCache"}
    received = [p for name, p in events if name == "Network.responseReceived"]
    cached |= {p["requestId"] for p in received if p["response"].get("fromDiskCache")}
    sent = {p["requestId"]: p["request"]["url"] for name, p in events if name == "Network.requestWillBeSent"}
    size = sum(int(p["encodedDataLength"]) for name, p in events if name == "Network.loadingFinished")
    wire = [url for id_, url in sent.items() if id_ not in cached and url.startswith("http")]
    return [urlsplit(url).path for url in wire], size


async def test_a_page_whose_files_are_not_there_yet_loads_itself_again(
    service: Process, browser: Chrome, tmp_path: Path
) -> None:
    """As during a roll, when the instance of the page is new and that of the file is old."""

    def walk(page: ConsolePage) -> None:
        browser.execute_cdp_cmd("Network.enable", {})
        browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/assets/app.*"]})
        page.open("/stock")
        page.until_text("Loading")
        browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Stock")

    await walked(browser, service.url, tmp_path, walk)
