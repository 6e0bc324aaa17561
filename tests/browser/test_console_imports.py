"""The console in headless Chromium: a file is checked, its bad lines stand beside their reasons, then it is loaded, and
taken back."""

from pathlib import Path

import asyncpg
from selenium.webdriver import Chrome
from selenium.webdriver.support.select import Select

from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import Process, worker
from tests.auth.people import PASSWORD as THEIR_PASSWORD
from tests.browser.chromium import console_errors
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import person, walked

SKU, PLACE = "BEAN-ESP-1K", "MAIN-A-01"
BAD = f"""occurred_at;type;sku;location;quantity;unit_cost
2026-03-01 10:00;IN;{SKU};{PLACE};2,5;9,85
2026-03-01 10:00;IN;NO-SUCH-BEAN;{PLACE};3;1
2026-03-01 10:00;IN;{SKU};{PLACE};three <b>;1
"""
GOOD = f"""occurred_at;type;sku;location;quantity;unit_cost;reference_no
2026-03-01 10:00;IN;{SKU};{PLACE};2;9,85;FILE-7
2026-03-01 11:00;IN;{SKU};{PLACE};3;9,85;FILE-7
"""
ITEMS = "sku,name,unit,shelf_life\nFILE-1,<i>From a file</i>,PCS,90 days\nFILE-2,Second,KGM,\n"

LOSE = """const send = window.fetch
window.fetch = async (...all) => {
  const answer = await send(...all)
  if (String(all[0]).includes('/imports/jobs?')) { window.fetch = send; throw new TypeError('lost') }
  return answer
}"""
DROP = """const dropped = new DataTransfer()
dropped.items.add(new File([arguments[0]], 'dropped.csv'))
document.querySelector('.drop').dispatchEvent(new DragEvent('drop', {dataTransfer: dropped, bubbles: true}))"""


def press(page: ConsolePage, label: str) -> None:
    page.until(lambda: [each for each in page.all("button") if each.text == label])[0].click()


def choose(page: ConsolePage, name: str, value: str) -> None:
    Select(page.field(name)).select_by_value(value)


def check(page: ConsolePage, file: Path, dataset: str) -> None:
    page.heading("Imports")
    page.field("file").send_keys(str(file))
    choose(page, "dataset", dataset)


def ended(page: ConsolePage, status: str) -> None:
    page.one(f"main .state.{status}")


async def test_movements_are_checked_mended_loaded_and_taken_back(
    stocked: Settings, service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    bad, good = tmp_path / "bad.csv", tmp_path / "good.csv"
    bad.write_text(BAD)
    good.write_text(GOOD)
    before = await stock(owner)

    def refused(page: ConsolePage) -> None:
        page.open("/imports")
        page.sign_in(EMAIL, PASSWORD)
        check(page, bad, "movements")
        page.one("summary").click()
        choose(page, "decimal_comma", "true")
        choose(page, "timezone", "Europe/Berlin")
        press(page, "Check")
        page.heading("bad.csv")
        ended(page, "failed")
        page.until(lambda: "NO-SUCH-BEAN;" in page.text())
        rows = [row.text for row in page.all("main tbody tr")]
        assert [("sku" in row, BAD.splitlines()[2] in row) for row in rows if row.startswith("3 ")] == [(True, True)]
        assert [("quantity" in row, BAD.splitlines()[3] in row) for row in rows if row.startswith("4 ")] == [
            (True, True)
        ]
        assert len(rows) == 2
        page.save(tmp_path / "screenshots" / "bad.png")

    def loaded(page: ConsolePage) -> None:
        page.one(".notice.bad a").click()
        check(page, good, "movements")
        assert page.field("timezone").get_attribute("value") == "Europe/Berlin"
        press(page, "Check")
        page.heading("good.csv")
        page.until_text("Nothing is loaded yet")
        page.save(tmp_path / "screenshots" / "good.png")
        # the service takes it, and its answer never arrives
        page.chrome.execute_script(LOSE)
        press(page, "Load 2 rows")
        page.until_text("does not answer")
        press(page, "Load 2 rows")
        page.until(lambda: [each for each in page.all("dd") if each.text == "Load"])
        ended(page, "succeeded")

    def taken_back(page: ConsolePage) -> None:
        press(page, "Take back")
        page.until_text("This is needed")
        page.field("reason").send_keys("the wrong file")
        press(page, "Take back")
        page.save(tmp_path / "screenshots" / "asked.png")
        page.one("dialog[open] button[value=yes]").click()
        page.until_text("Takes back")
        ended(page, "succeeded")
        page.one("dl.facts-of a").click()
        page.until_text("This was taken back")
        assert not page.all("[name=reason]")

    async with worker(stocked, tmp_path / "worker"):
        await walked(browser, service.url, tmp_path, refused)
        assert await stock(owner) == before
        await walked(browser, service.url, tmp_path, loaded)
        assert await stock(owner) == before + 5
        loads = "select count(*) from import_jobs where not coalesce((spec->>'dry_run')::boolean, false)"
        assert await owner.fetchval(loads) == 1
        at = await owner.fetchval("select min(occurred_at) from stock_ledger where reference_no = 'FILE-7'")
        assert at.isoformat() == "2026-03-01T09:00:00+00:00"
        await walked(browser, service.url, tmp_path, taken_back)
    assert await stock(owner) == before
    assert console_errors(browser) == []


async def test_items_are_loaded_by_whoever_chooses_the_file_again_after_a_reload(
    stocked: Settings, service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "items.csv"
    file.write_text(ITEMS)

    def canceled(page: ConsolePage) -> None:
        page.open("/imports")
        page.sign_in(EMAIL, PASSWORD)
        check(page, file, "items")
        choose(page, "mode", "upsert")
        press(page, "Check")
        page.heading("items.csv")
        press(page, "Cancel")
        ended(page, "canceled")
        press(page, "Delete")
        page.one("dialog[open] button[value=yes]").click()
        page.until_text("No file yet.")

    def loaded(page: ConsolePage) -> None:
        check(page, file, "items")
        choose(page, "mode", "upsert")
        press(page, "Check")
        page.until_text("Nothing is loaded yet")
        page.chrome.refresh()
        page.until_text("no longer has the file")
        assert not [each for each in page.all("button") if each.text.startswith("Load")]
        page.one("main .card a").click()
        check(page, file, "items")
        assert page.field("mode").get_attribute("value") == "upsert"
        # a spreadsheet saves it once more, after it was chosen
        file.write_text(ITEMS + "FILE-3,Third,PCS,\n")
        press(page, "Check")
        page.until_text("was changed meanwhile")
        page.field("file").send_keys(str(file))
        press(page, "Check")
        press(page, "Load 3 rows")
        page.until(lambda: [each for each in page.all("dd") if each.text == "Load"])
        ended(page, "succeeded")

    await walked(browser, service.url, tmp_path, canceled)
    async with worker(stocked, tmp_path / "worker"):
        await walked(browser, service.url, tmp_path, loaded)
    rows = await owner.fetch("select sku, name from items where sku like 'FILE-%' order by sku")
    assert [tuple(row) for row in rows] == [("FILE-1", "<i>From a file</i>"), ("FILE-2", "Second"), ("FILE-3", "Third")]


async def test_staff_import_movements_only(
    service: Process, browser: Chrome, database: Database, tmp_path: Path
) -> None:
    staff = await person(database)

    def walk(page: ConsolePage) -> None:
        page.open("/imports")
        page.sign_in(staff.email, THEIR_PASSWORD)
        page.heading("Imports")
        assert [each.text for each in Select(page.field("dataset")).options] == ["Movements"]
        assert not page.all("[name=history]")
        press(page, "Check")
        page.until_text("Choose a file that is not empty")
        page.chrome.execute_script(DROP, GOOD)
        press(page, "Check")
        page.heading("dropped.csv")
        page.one("main progress")

    await walked(browser, service.url, tmp_path, walk)


async def stock(owner: asyncpg.Connection) -> int:
    query = """select b.on_hand from stock_balances b join items i on i.id = b.item_id
    join locations l on l.id = b.location_id where i.sku = $1 and l.code = $2"""
    return int(await owner.fetchval(query, SKU, PLACE))
