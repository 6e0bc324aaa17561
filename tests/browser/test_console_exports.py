"""The console in headless Chromium: exports from the form to the file, and schedules, in words and in fact."""

import csv
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from erp_service.console.routes import ASSETS
from erp_service.settings import Settings
from tests.acceptance.instances import Process, environment, erp, worker
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import walked
from tests.support.settings import as_role

SKU = "BEAN-ESP-1K"
CADENCES = [
    ("en", "30 6 * * 1-5", "Europe/Berlin", "Every weekday at 06:30, time of Berlin"),
    ("de", "30 6 * * mon-fri", "Europe/Berlin", "Montag bis Freitag um 06:30 Uhr, Zeit von Berlin"),
    ("en", "0 0 * * *", "UTC", "Every day at 00:00, UTC"),
    ("en", "0,30 18,6 * * 7", "UTC", "Every Sunday at 06:00, 06:30, 18:00, and 18:30, UTC"),
    ("de", "0 7 * * thu,1", "America/New_York", "Jeden Montag und Donnerstag um 07:00 Uhr, Zeit von New York"),
    ("en", "0 5 1,15 * *", "UTC", "On day 1 and 15 of each month at 05:00, UTC"),
    ("de", "0 5 1,15 * *", "UTC", "Am 1. und 15. jedes Monats um 05:00 Uhr, UTC"),
    ("en", "59 23 L * *", "UTC", "On the last day of each month at 23:59, UTC"),
    ("en", "*/15 * * * *", "UTC", "Every 15 minutes, UTC"),
    ("en", "5 * * * 6", "UTC", "Every Saturday, every hour at minute 05, UTC"),
    # there are no exact words for these
    ("en", "*/25 * * * *", "UTC", "*/25 * * * *, UTC"),
    ("en", "0 6 13 * 5", "UTC", "0 6 13 * 5, UTC"),
    ("en", "0 6 */2 * *", "UTC", "0 6 */2 * *, UTC"),
    ("en", "0 6 1 1 *", "UTC", "0 6 1 1 *, UTC"),
    ("en", "0 6-18/3 * * *", "UTC", "0 6-18/3 * * *, UTC"),
    ("en", "0 1,6-18/3 * * *", "UTC", "0 1,6-18/3 * * *, UTC"),
    ("en", "0 8-18 * * *", "UTC", "0 8-18 * * *, UTC"),
    ("en", "0 6 1,L * *", "UTC", "0 6 1,L * *, UTC"),
]


LATE = """const send = window.fetch
window.fetch = async (...all) => {
  const answer = await send(...all)
  if (window.asked || !String(all[0]).endsWith('/estimates')) return answer
  await new Promise((resolve) => { window.answer = resolve; window.asked = true })
  setTimeout(() => { window.answered = true }, 100)
  return answer
}"""


def button(page: ConsolePage, text: str) -> WebElement:
    return page.until(lambda: [each for each in page.all("main button, dialog button") if each.text == text])[0]  # type: ignore[no-any-return]


def choose(page: ConsolePage, name: str, words: str) -> None:
    """By keyboard, as only that sends all events of a browser."""
    page.one(f"select[name='{name}']").send_keys(words)
    page.until(lambda: page.one(f"select[name='{name}'] option:checked").text == words)


def said_in_words(page: ConsolePage, language: str) -> None:
    url = f"{page.url}/console/assets/{ASSETS.named('exports/cadence.js').served_as}"
    call = """const [url, cron, zone, done] = arguments
    import(url).then(({ cadence }) => done(cadence(cron, zone)))"""
    for wanted, cron, zone, expected in CADENCES:
        if wanted == language:
            assert page.chrome.execute_async_script(call, url, cron, zone) == expected


async def test_an_export_is_chosen_and_watched_to_its_file_while_its_worker_and_its_instance_are_killed(
    stocked: Settings, service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    expected = await owner.fetch(
        """select trim_scale(e.quantity)::text, i.sku from stock_ledger e join items i on i.id = e.item_id
        where i.sku = $1 and e.entry_type = 'OUT' order by e.id""",
        SKU,
    )
    assert len(expected) > 1

    def submit(page: ConsolePage) -> None:
        page.open("/exports")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Exports")
        choose(page, "dataset", "Stock movements")
        page.one("main summary").click()
        button(page, "None").click()
        # refused at the columns themselves, before anything is submitted
        page.until(lambda: page.one("details .fault").text)
        for name in ("sku", "quantity"):
            page.one(f"input[value='{name}']").click()
        for _ in range(3):
            page.one("[aria-label='Move quantity up']").click()
        page.all("main summary")[1].click()
        page.field("sku").send_keys(SKU)
        choose(page, "transaction_type", "Issue")
        page.until(lambda: page.one(".estimate").text.startswith(f"{len(expected)} rows"))
        assert not page.one("details .fault").text
        press = "document.querySelector('button[type=submit]')"
        browser.execute_script(f"{press}.click(); {press}.click(); document.forms[0].requestSubmit()")
        page.one(".export .queued")

    def take(page: ConsolePage) -> None:
        where = {"behavior": "allow", "downloadPath": str(tmp_path / "files")}
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
        page.one(".export .succeeded")
        assert "attempt" in page.one(".export").text
        button(page, "Download").click()
        page.until(lambda: list((tmp_path / "files").glob("*.csv")))

    await walked(browser, service.url, tmp_path, submit)
    async with worker(stocked, tmp_path / "worker") as first, owner.transaction():
        # its rows cannot be read yet: the export runs and does not end
        await owner.execute("lock table stock_ledger in access exclusive mode")
        await walked(browser, service.url, tmp_path, lambda page: page.one(".export .running"))
        first.process.kill()
        service.process.kill()
        await first.ended()
        await service.ended()
    env = environment(as_role(stocked, "erp_api"), ERP_PORT=str(urlsplit(service.url).port))
    async with erp("serve", env=env, log=tmp_path / "log2"), worker(stocked, tmp_path / "worker2"):
        await walked(browser, service.url, tmp_path, take)
    (attempt,) = await owner.fetchval("select array_agg(attempt) from export_jobs")
    assert attempt > 1
    (file,) = (tmp_path / "files").glob("*.csv")
    rows = list(csv.reader(file.read_text().splitlines()))
    assert rows == [["quantity", "sku"], *([row[0], row[1]] for row in expected)]


async def test_an_export_that_waits_is_cancelled_tried_again_and_deleted(
    service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    items = await owner.fetchval("select count(*) from items where deleted_at is null")

    def walk(page: ConsolePage) -> None:
        page.open("/exports")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Exports")
        choose(page, "dataset", "Items")
        page.until(lambda: page.one(".estimate").text.startswith(f"{items} rows"))
        # the answer about the other format comes after the one about a single item, and is not shown
        browser.execute_script(LATE)
        choose(page, "format", "CSV for Excel")
        page.until(lambda: browser.execute_script("return window.asked"))
        page.all("main summary")[1].click()
        page.field("sku").send_keys(SKU)
        page.until(lambda: page.one(".estimate").text.startswith("1 row "))
        browser.execute_script("window.answer()")
        page.until(lambda: browser.execute_script("return window.answered"))
        assert page.one(".estimate").text.startswith("1 row ")
        page.one("form button[type=submit]").click()
        page.one(".export .queued")
        page.one("form button[type=submit]").click()
        page.until_text("The same export is waiting")
        button(page, "Cancel").click()
        page.one(".export .canceled")
        button(page, "Try again").click()
        page.one(".export .queued")
        assert len(page.all(".export")) == 2
        button(page, "Delete").click()
        page.one("dialog button[value=yes]").click()
        page.until(lambda: len(page.all(".export")) == 1)
        assert page.all(".export .queued")

    await walked(browser, service.url, tmp_path, walk)
    found = await owner.fetch(
        "select status, deleted_at is not null as deleted, retry_of is not null as again from export_jobs order by id"
    )
    assert [tuple(row) for row in found] == [("canceled", True, False), ("queued", False, True)]
    assert await owner.fetchval("select bool_and(spec -> 'csv' ->> 'bom' = 'true') from export_jobs")
    assert await owner.fetchval("select array_agg(distinct spec -> 'filter' ->> 'sku') from export_jobs") == [SKU]


async def test_a_schedule_is_made_seen_in_words_changed_paused_and_deleted(
    service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    def make(page: ConsolePage) -> None:
        browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"})
        page.open("/exports/schedules")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Schedules")
        button(page, "New schedule").click()
        choose(page, "days", "every weekday")
        page.chrome.execute_script("arguments[0].value = '06:30'", page.field("time"))
        page.field("timezone").send_keys(Keys.CONTROL, "a", Keys.NULL, "Europe/Nowhere")
        choose(page, "dataset", "Stock movements")
        page.one("main details:last-of-type summary").click()
        page.field("from").send_keys("start of month -1 month")
        page.one("form button[type=submit]").click()
        page.until(lambda: page.all("[name=timezone][aria-invalid=true]"))
        page.field("timezone").send_keys(Keys.CONTROL, "a", Keys.NULL, "Europe/Berlin")
        page.one("form button[type=submit]").click()
        page.until(lambda: "Every weekday at 06:30, time of Berlin" in page.one(".export").text)

    await walked(browser, service.url, tmp_path, make)
    made = await owner.fetchrow(
        """select cron, timezone, spec ->> 'dataset', spec -> 'filter' ->> 'from',
        to_char(next_run_at at time zone 'Asia/Tokyo', 'Mon FMDD, YYYY, FMHH12:MI AM') from export_schedules"""
    )
    assert made is not None
    assert tuple(made)[:4] == ("30 6 * * 1-5", "Europe/Berlin", "stock_movements", "start of month -1 month")

    def change(page: ConsolePage) -> None:
        assert made[4] in page.one(".export").text.replace("\u202f", " "), "in the zone of who looks"
        button(page, "Run now").click()
        page.until(lambda: "waiting" in page.one(".export").text)
        button(page, "Edit").click()
        assert page.field("from").get_attribute("value") == "start of month -1 month"
        choose(page, "days", "on the last day of each month")

    def conflict(page: ConsolePage) -> None:
        button(page, "Save").click()
        page.until_text("Somebody has changed this schedule meanwhile")
        button(page, "Close").click()
        button(page, "Pause").click()
        page.until(lambda: "paused" in page.one(".export").text)

    await walked(browser, service.url, tmp_path, change)
    await owner.execute("update export_schedules set updated_at = now(), version = version + 1")
    await walked(browser, service.url, tmp_path, conflict)
    assert await owner.fetchval("select array_agg(cron) from export_schedules where not is_active") == ["30 6 * * 1-5"]

    def remove(page: ConsolePage) -> None:
        button(page, "Delete").click()
        page.one("dialog button[value=yes]").click()
        page.until_text("No schedules yet")
        said_in_words(page, "en")
        page.one(".choice option[value=de]").click()
        page.until_text("Noch keine Zeitpläne")
        said_in_words(page, "de")

    await walked(browser, service.url, tmp_path, remove)
    assert await owner.fetchval("select count(*) from export_schedules") == 0
    assert await owner.fetchval("select count(*) from export_jobs") == 1
