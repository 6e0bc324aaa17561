"""The console in headless Chromium: posting by keyboard and scanner, once each, and finding items."""

from pathlib import Path

import asyncpg
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from tests.acceptance.instances import Process
from tests.browser.beside import entries
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import walked

SKU, NAME = "BEAN-ESP-1K", "Coffee beans, house espresso, 1 kg"
BARCODE, OTHER_BARCODE = "2000000000015", "2000000000022"
PLACE, SHOP = "MAIN-A-01", "SHOP-FLOOR"


async def test_a_scanner_alone_books_several_items_into_one_location_however_fast_it_is(
    service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> None:
        page.open("/stock/post/in")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Receipt")
        page.field("reference_no").send_keys("DELIVERY-7")
        page.field("location").click()
        page.scan(PLACE)
        page.until_focused("item")
        page.scan(BARCODE)
        page.until_focused("quantity")
        page.until_text(NAME)
        # the same thing once more is asked about, and becomes no quantity
        page.chrome.switch_to.active_element.send_keys("3")
        page.scan(BARCODE)
        page.until_focused("One more")
        page.chrome.switch_to.active_element.send_keys(Keys.ENTER)
        page.until_focused("quantity")
        page.scan("")
        page.until_focused("unit_cost")
        page.scan("9.85")
        page.until_text("Posted: +")
        page.until_focused("item")
        # a location is taken where an item is expected
        page.scan(SHOP)
        page.until(lambda: page.field("location").get_attribute("value") == SHOP)
        page.until_focused("item")
        page.scan("BEAN-DEC-1K")
        page.until_focused("quantity")
        page.scan("2.5.1")
        page.until_focused("unit_cost")
        page.scan("")
        page.until_text("Not a number that can be read in one way only")
        page.retype("quantity", "2")
        page.until_focused("unit_cost")
        page.scan("")
        page.until(lambda: len(page.all("main table tbody tr")) == 2)
        # the total of an invoice, which no cost of one says exactly
        page.field("cost_of").send_keys("all")
        page.field("item").click()
        page.scan(BARCODE)
        page.until_focused("quantity")
        page.scan("3")
        page.until_focused("unit_cost")
        page.scan("10")
        page.until(lambda: len(page.all("main table tbody tr")) == 3)
        without_a_pause(page)

    await walked(browser, service.url, tmp_path, walk)
    assert await entries(owner, "DELIVERY-7") == [("IN", "4"), ("IN", "2"), ("IN", "3")]
    assert (
        await owner.fetchval("select value from stock_ledger where reference_no = 'DELIVERY-7' order by id desc") == 10
    )
    statement = (
        "select i.sku, trim_scale(e.quantity)::text from stock_ledger e join items i on i.id = e.item_id"
        " where e.reference_no = 'FAST' order by e.id"
    )
    assert [tuple(row) for row in await owner.fetch(statement)] == [(SKU, "-1"), ("BEAN-FIL-1K", "-2")]


def without_a_pause(page: ConsolePage) -> None:
    """A location and two items before the answer to any of them has come."""
    page.open("/stock/post/out")
    page.heading("Issue")
    page.field("reference_no").send_keys("FAST")
    page.field("location").click()
    page.scan(f"{PLACE}{Keys.ENTER}{BARCODE}{Keys.ENTER}{OTHER_BARCODE}")
    page.until_text("comes next")
    assert [page.field(name).get_attribute("value") for name in ("item", "quantity")] == [SKU, ""]
    page.scan(f"1{Keys.ENTER}2")
    page.until(lambda: len(page.all("main table tbody tr")) == 2)


async def test_a_double_click_and_a_lost_answer_book_once(
    service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> None:
        page.open("/stock/post/in")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Receipt")
        fill(page, reference_no="TWICE", quantity="5", unit_cost="1")
        button = "document.querySelector('button[type=submit]')"
        browser.execute_script(f"{button}.click(); {button}.click(); document.forms[0].requestSubmit()")
        page.until_text("Posted: +5")
        # the service books, and its answer never arrives
        lose = """const send = window.fetch
        window.fetch = async (...all) => {
          const answer = await send(...all)
          if (String(all[0]).includes('/stock/in')) { window.fetch = send; throw new TypeError('lost') }
          return answer
        }"""
        browser.execute_script(lose)
        fill(page, reference_no="LOST", quantity="6", unit_cost="1")
        page.one("button[type=submit]").click()
        page.until_text("It may have been booked")
        assert page.field("quantity").get_attribute("disabled"), "nothing may change before it is answered"
        # not even a reload forgets its key
        browser.refresh()
        page.until_text("A posting had no answer")
        page.until_focused("Send again")
        browser.switch_to.active_element.send_keys(Keys.ENTER)
        page.until_text("Posted: +6")

    await walked(browser, service.url, tmp_path, walk)
    assert await entries(owner, "TWICE") == [("IN", "5")]
    assert await entries(owner, "LOST") == [("IN", "6")]


def fill(page: ConsolePage, **values: str) -> None:
    for name, value in {"location": PLACE, "item": SKU, **values}.items():
        page.field(name).clear()
        page.field(name).send_keys(value, Keys.TAB)
        if name == "item":
            page.until_text(NAME)
    page.settle()


async def test_a_sale_is_taken_back_in_part_from_its_document(
    service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> None:
        page.open("/stock/post/out")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Issue")
        fill(page, reference_no="SALE", quantity="3")
        page.one("button[type=submit]").click()
        page.until_text("Posted: -3")
        page.open("/stock/ledger?reference_no=SALE")
        page.one("main a[href*='/stock/ledger/']").click()
        page.field("line_1").send_keys("one", Keys.ENTER)
        page.until(lambda: page.all("[name=line_1][aria-invalid=true]"))
        page.retype("line_1", "4")
        page.until(lambda: page.all("[name=reason][aria-invalid=true]"))
        page.retype("reason", "came back")
        # more than there was
        page.until(lambda: page.all("[name=line_1][aria-invalid=true]"))
        page.retype("line_1", "1")
        page.until_text("Reverses")
        assert "+1" in page.text()
        page.one("dl a").click()
        page.until_text("Reversed by")

    await walked(browser, service.url, tmp_path, walk)
    returned = "select trim_scale(e.quantity)::text, e.reason from stock_ledger e where e.reverses_id is not null"
    assert [tuple(row) for row in await owner.fetch(returned)] == [("1", "came back")]


async def test_a_refusal_stands_at_the_field_that_it_names(
    service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> None:
        page.open("/stock/post/transfer")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Transfer")
        page.scan(PLACE)
        page.until_focused("to_location")
        page.scan(SHOP)
        page.until_focused("item")
        page.scan("no such thing")
        page.until_text("No item and no location has the code")
        page.scan(SKU)
        page.until_focused("quantity")
        page.scan("99999")
        page.until_text("Not enough: 16 available.")
        assert page.one("[name=quantity]").get_attribute("aria-invalid") == "true"
        assert page.focused() == "quantity"
        page.retype("quantity", "1.5")
        page.until(lambda: page.all("[name=quantity][aria-invalid=true]"))
        page.field("reference_no").send_keys("SHELF")
        page.retype("quantity", "1")
        page.until_text("Posted: ")

    await walked(browser, service.url, tmp_path, walk)
    assert sorted(await entries(owner, "SHELF")) == [("TRANSFER_IN", "1"), ("TRANSFER_OUT", "-1")]


async def test_the_search_asks_once_a_pause_and_shows_no_older_answer_over_a_newer_one(
    service: Process, browser: Chrome, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> None:
        page.open("/stock")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Stock")
        # answers to "tea" take long, and do not hear that they are not wanted
        slow = """window.asked = []
        const send = window.fetch
        window.fetch = async (input, options) => {
          const url = new URL(input, location)
          if (!url.pathname.endsWith('/inventory/items')) return send(input, options)
          const q = url.searchParams.get('q')
          window.asked.push(q)
          const answer = await send(input, {...options, signal: undefined})
          if (q === 'tea') { await new Promise(done => { window.release = done }) }
          return answer
        }"""
        browser.execute_script(slow)
        page.one("#search").send_keys("tea")
        page.until(lambda: browser.execute_script("return Boolean(window.release)"))
        page.one("#search").send_keys(Keys.BACKSPACE * 3, "espresso")
        page.until(lambda: rows(page) and all("spresso" in row for row in rows(page)))
        page.settle()
        shown = rows(page)
        browser.execute_script("window.release()")
        page.drawn()
        assert rows(page) == shown
        asked = browser.execute_script("return window.asked")
        assert asked[0] == "tea"
        assert asked[-1] == "espresso"
        assert len(asked) <= 3, "not one for each letter"
        page.one("#search").clear()
        page.one("#search").send_keys(BARCODE, Keys.ENTER)
        page.heading(NAME)
        assert "To reorder" in page.one("dl.figures").text
        # a location is taken where an item is expected, without a click before it
        page.open("/stock")
        page.heading("Stock")
        page.one("h1").click()
        page.scan(SHOP)
        page.until_text(f"{SHOP} · Shop floor")
        assert any(row.startswith(SKU) for row in rows(page))

    await walked(browser, service.url, tmp_path, walk)


def rows(page: ConsolePage) -> list[str]:
    return list(
        page.chrome.execute_script("return [...document.querySelectorAll('tbody tr')].map(row => row.innerText)")
    )
