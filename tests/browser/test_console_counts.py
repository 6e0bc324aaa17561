"""The console in headless Chromium: counting by scanner, alone and by two people at once."""

import itertools
import os
from pathlib import Path

import asyncpg
import httpx
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import Process, signed_in
from tests.browser.beside import issue
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import person, walked

PLACE, SHOP = "MAIN-A-01", "SHOP-FLOOR"
ESPRESSO, FILTER, DECAF = "2000000000015", "2000000000022", "2000000000039"


async def test_three_items_are_counted_by_scanner_alone_and_what_differs_is_posted(
    service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> None:
        page.open("/stock/counts")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Counts")
        page.until_focused("location")
        page.scan(PLACE)
        page.heading(f"Count of {PLACE}")
        page.until_focused("item")
        assert "By the books" not in page.text()
        # as fast as the keys go: the quantity of the first, and the second item waits for it
        page.chrome.switch_to.active_element.send_keys(f"{ESPRESSO}{Keys.ENTER}{FILTER}{Keys.ENTER}")
        page.until_text("filter roast, 1 kg comes next")
        page.scan("7")
        page.until_text("Just saved")
        page.until(lambda: page.field("item").get_attribute("value") == "BEAN-FIL-1K")
        page.until_focused("quantity")
        # the same item again, twice, before it was said what that means
        page.chrome.switch_to.active_element.send_keys(f"{FILTER}{Keys.ENTER}{FILTER}{Keys.ENTER}")
        page.until_focused("2 more")
        page.chrome.switch_to.active_element.send_keys(Keys.ENTER)
        page.until_focused("quantity")
        page.scan("")
        page.until_text("Saved: 3 bag of Coffee beans, filter roast")
        page.one("[name=each]").click()
        # what is typed while nothing has the focus that takes it goes to the item
        page.scan(f"{DECAF}{Keys.ENTER}{DECAF}")
        page.until_text("Saved: 2 bag of Coffee beans, decaffeinated")
        page.one("[name=each]").click()
        page.one("a[href='?show=lines']").click()
        page.one("[aria-label='Count again: BEAN-ESP-1K']").click()
        page.until_text("So far 7 bag")
        page.until_focused("quantity")
        page.scan("9")
        page.until_text("Saved: 9 bag of Coffee beans, house espresso")
        page.one("a[href='?show=differences']").click()
        page.until(lambda: len(page.all("section[aria-label=Counts] tbody tr")) == 3)
        page.settle()
        assert looked_at(page, tmp_path) == []
        # one is sold before the count is posted
        issue(page.url, "BEAN-ESP-1K", PLACE)
        page.field("reason").send_keys("January", Keys.ENTER)
        page.one("dialog")
        assert "3 counted, 3 of them differ" in page.text()
        page.one("dialog button.primary").click()
        page.until_text("Stock moved after it was counted")
        page.save(tmp_path / "screenshots" / "moved.png")
        page.one("[name=accept]").click()
        page.field("reason").send_keys(Keys.ENTER)
        page.one("dialog button.primary").click()
        page.until_text("posted")
        page.until(lambda: not page.all("[name=item]"))
        page.one("main a[href*='/stock/ledger/']").click()
        page.until_text("Adjustment (count)")

    await walked(browser, service.url, tmp_path, walk)
    count = await owner.fetchrow("select id, status, transaction_id from stock_counts")
    assert count is not None
    assert count["status"] == "POSTED"
    lines = await owner.fetch(
        "select i.sku, trim_scale(n.counted)::text, trim_scale(n.counted - n.expected)::text from stock_count_lines n"
        " join items i on i.id = n.item_id order by i.sku"
    )
    counted = {sku: number for sku, number, _ in lines}
    assert counted == {"BEAN-DEC-1K": "2", "BEAN-ESP-1K": "9", "BEAN-FIL-1K": "3"}
    booked = await owner.fetch(
        "select i.sku, trim_scale(e.quantity)::text, e.reason from stock_ledger e join items i on i.id = e.item_id"
        " where e.transaction_id = $1 and e.quantity <> 0 order by i.sku",
        count["transaction_id"],
    )
    assert [tuple(row) for row in booked] == [(sku, difference, "January") for sku, _, difference in lines]


def looked_at(page: ConsolePage, tmp_path: Path) -> list[str]:
    """What is wrong with the page in both widths and themes; it leaves a screenshot of each."""
    axe = os.environ.get("ERP_TEST_AXE")
    faults = []
    for width, theme in itertools.product((1920, 360), ("light", "dark")):
        page.resize(width)
        page.prefer(theme)
        page.drawn()
        page.save(tmp_path / "screenshots" / f"count-{width}-{theme}.png")
        faults += page.faults_of_access(Path(axe)) if axe else []
        faults += [f"too wide at {width}"] if page.overflow() > 0 else []
    page.resize(1400, 2400)
    return faults


async def test_two_people_in_one_count_see_each_other_and_lose_nothing(
    stocked: Settings, service: Process, browser: Chrome, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    grace = await person(database)
    async with signed_in(service, stocked, grace.id) as client:
        opened = await client.post("/api/v1/inventory/counts", json={"location": PLACE, "reference_no": "C-7"})
        await client.post("/api/v1/inventory/counts", json={"location": SHOP})
        lines = f"/api/v1/inventory/counts/{opened.json()['id']}/lines"

        def as_grace(sku: str, counted: str) -> None:
            headers = {"Authorization": client.headers["Authorization"]}
            body = {"lines": [{"sku": sku, "counted": counted}]}
            httpx.put(service.url + lines, json=body, headers=headers).raise_for_status()

        def walk(page: ConsolePage) -> None:
            page.open("/stock/counts")
            page.sign_in(EMAIL, PASSWORD)
            page.heading("Counts")
            assert "Staff Person" in page.one("tbody").text
            page.scan(PLACE)
            page.until_text("Staff Person opened it")
            page.one("dialog [value=no]").click()
            page.until(lambda: [a for a in page.all("tbody a") if a.text == PLACE])[0].click()
            page.heading(f"Count of {PLACE}")
            page.scan(ESPRESSO)
            page.until_focused("quantity")
            # while one types, the other has counted the same item, and one more
            as_grace("BEAN-ESP-1K", "4")
            as_grace("BEAN-FIL-1K", "5")
            page.scan("3")
            page.until_text("Meanwhile: 4 bag, Staff Person")
            page.scan("")
            page.until_text("Saved: 7 bag")
            page.scan(FILTER)
            page.until_text("So far 5 bag: Staff Person")
            page.one("[name=replace]").click()
            page.field("quantity").send_keys("6", Keys.ENTER)
            page.until_text("Saved: 6 bag")
            # what the other one counts is seen without a click
            page.one("a[href='?show=lines']").click()
            page.one("h1").click()
            as_grace("BEAN-DEC-1K", "8")
            page.until(lambda: "Coffee beans, decaffeinated" in page.one("section[aria-label=Counts]").text)
            the_network_is_cut_while_one_types(page)
            # another location leads to its count, and what was scanned there at once goes into that one
            page.until_focused("item")
            page.scan(f"{SHOP}{Keys.ENTER}{ESPRESSO}")
            page.heading(f"Count of {SHOP}")
            page.until_text("house espresso")
            page.until_focused("quantity")
            page.scan("22")
            page.until_text("Saved: 22 bag")

        await walked(browser, service.url, tmp_path, walk)
        counted = {line["sku"]: line["counted"] for line in (await client.get(lines)).json()["items"]}
    assert counted == {"BEAN-ESP-1K": "8", "BEAN-FIL-1K": "8", "BEAN-DEC-1K": "8"}
    elsewhere = "select trim_scale(counted)::text from stock_count_lines n join stock_counts c on c.id = n.count_id"
    assert await owner.fetchval(f"{elsewhere} join locations l on l.id = c.location_id where l.code = $1", SHOP) == "22"
    assert await owner.fetchval("select count(*) from stock_ledger where origin = 'COUNT'") == 0


def the_network_is_cut_while_one_types(page: ConsolePage) -> None:
    """What was entered is sent when it is back, over a reload, too; what was scanned meanwhile waits for it."""
    page.scan(ESPRESSO)
    page.until_focused("quantity")
    page.cut_network(cut=True)
    page.scan("1")
    page.until_text("Check the network")
    page.chrome.switch_to.active_element.send_keys(FILTER)
    page.until_focused("Try again")
    page.chrome.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.focused() == "Try again", "it was the scanner's Enter"
    page.cut_network(cut=False)
    page.until(lambda: page.field("item").get_attribute("value") == "BEAN-FIL-1K")
    page.until_focused("quantity")
    # the service saves, and its answer never arrives
    lose = """const send = window.fetch
    window.fetch = async (...all) => {
      const answer = await send(...all)
      if (all[1].method === 'PUT') { throw new TypeError('lost') }
      return answer
    }"""
    page.chrome.execute_script(lose)
    page.scan("2")
    page.until_text("Check the network")
    page.chrome.refresh()
    page.until_text("Saved: 8 bag of Coffee beans, filter roast")
