"""The console in headless Chromium, on real instances: signing in and staying so, posting by keyboard and scanner, and
what happens when the network, an instance or a role goes away."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from erp_service.access.roles import Role
from erp_service.console.routes import ASSETS
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import Process, instance, worker
from tests.auth.devices import Device, forget_steps, with_device
from tests.auth.people import HASH, Person
from tests.auth.people import PASSWORD as THEIR_PASSWORD
from tests.browser.chromium import chromium, console_errors, network_events
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.support.company import set_company
from tests.support.users import make_user

MOST_REQUESTS, MOST_BYTES = 6, 60_000
SKU, BARCODE, NAME = "BEAN-ESP-1K", "2000000000015", "Coffee beans, house espresso, 1 kg"
PLACE, SHOP = "MAIN-A-01", "SHOP-FLOOR"


async def person(database: Database, role: Role = Role.STAFF) -> Person:
    email = f"{role.lower()}@example.com"
    return Person(await make_user(database, role, email, HASH), email)


async def walked(chrome: Chrome, url: str, tmp_path: Path, walk: Callable[[ConsolePage], Any]) -> Any:
    """What `walk` returns. It runs in a thread; if it fails, a screenshot says where."""
    page = ConsolePage(chrome, url)
    try:
        return await asyncio.to_thread(walk, page)
    except BaseException:
        page.save(tmp_path / "failed.png")
        raise


async def entries(owner: asyncpg.Connection, reference: str) -> list[tuple[str, str]]:
    """What the ledger holds under a reference: kind and quantity."""
    statement = "select entry_type, trim_scale(quantity)::text from stock_ledger where reference_no = $1 order by id"
    return [(row[0], row[1]) for row in await owner.fetch(statement, reference)]


async def test_a_session_lasts_over_reloads_tabs_and_a_roll_and_ends_in_all_tabs(
    stocked: Settings, browser: Chrome, tmp_path: Path
) -> None:
    async with instance(stocked, tmp_path / "log") as first, instance(stocked, tmp_path / "log2") as second:

        def begin(page: ConsolePage) -> None:
            page.open("/stock/low")
            page.sign_in(EMAIL, "not the password")
            page.until_text("E-mail or password is wrong")
            page.field("password").clear()
            page.field("password").send_keys(PASSWORD, Keys.ENTER)
            page.heading("To reorder")
            assert "token" not in str(browser.execute_script("return JSON.stringify([localStorage, sessionStorage])"))
            assert browser.execute_script("return document.cookie") == ""
            browser.switch_to.new_window("tab")
            page.open()
            for _ in range(3):
                load_in_each_tab_at_once(page)

        await walked(browser, first.url, tmp_path, begin)
        first.process.terminate()

        def go_on(page: ConsolePage) -> None:
            # cookies know no ports: to the browser it is the same host, as behind a balancer
            page.open()
            page.heading("Today")
            other = next(tab for tab in browser.window_handles if tab != browser.current_window_handle)
            here = browser.current_window_handle
            browser.switch_to.window(other)
            page.open("/stock")
            page.heading("Stock")
            page.one("header button").click()
            page.until_text("You are signed out here")
            browser.switch_to.window(here)
            page.until_text("You are signed out here")
            page.open()
            page.heading("Sign in")

        await walked(browser, second.url, tmp_path, go_on)


async def test_two_tabs_stay_signed_in_where_the_browser_gives_no_locks(
    service: Process, browser: Chrome, tmp_path: Path
) -> None:
    """As over plain HTTP on another machine than this one."""
    hide = {"source": "Object.defineProperty(Navigator.prototype, 'locks', {value: undefined})"}

    def walk(page: ConsolePage) -> None:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", hide)
        page.open()
        assert browser.execute_script("return navigator.locks") is None
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Today")
        browser.switch_to.new_window("tab")
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", hide)
        page.open()
        page.heading("Today")
        for _ in range(3):
            load_in_each_tab_at_once(page)

    await walked(browser, service.url, tmp_path, walk)


def load_in_each_tab_at_once(page: ConsolePage) -> None:
    """Nobody uses a token twice: all of them show Today."""
    tabs = page.chrome.window_handles
    for tab in tabs:
        page.chrome.switch_to.window(tab)
        page.chrome.execute_script("window.old = true; setTimeout(() => location.assign('/console'), 50)")
    for tab in tabs:
        page.chrome.switch_to.window(tab)
        page.until(lambda: not page.chrome.execute_script("return window.old"))
        page.heading("Today")


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


async def test_the_second_factor_is_asked_for_when_it_is_needed(
    service: Process, browser: Chrome, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    grace = await person(database)
    async with httpx.AsyncClient(base_url=service.url) as client:
        device, _ = await with_device(client, grace)
    await forget_steps(owner)

    def walk(page: ConsolePage) -> None:
        page.open()
        page.sign_in(grace.email, THEIR_PASSWORD)
        page.until_focused("totp")
        page.field("totp").send_keys("000000", Keys.ENTER)
        page.until_text("is not valid")
        page.field("totp").clear()
        page.field("totp").send_keys(device.code(), Keys.ENTER)
        page.heading("Today")

    await walked(browser, service.url, tmp_path, walk)


async def test_a_password_that_somebody_else_has_set_is_changed_first(
    service: Process, browser: Chrome, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    grace = await person(database)
    await owner.execute("update users set must_change_password = true where id = $1", grace.id)

    def walk(page: ConsolePage) -> None:
        page.open()
        page.sign_in(grace.email, THEIR_PASSWORD)
        page.heading("Choose a new password")
        page.one("[autocomplete='current-password']").send_keys(THEIR_PASSWORD)
        page.one("[autocomplete='new-password']").send_keys("short", Keys.ENTER)
        page.until(lambda: page.all("[autocomplete='new-password'][aria-invalid='true']"))
        page.one("[autocomplete='new-password']").clear()
        page.one("[autocomplete='new-password']").send_keys("another phrase by the sea", Keys.ENTER)
        page.heading("Today")
        page.chrome.refresh()
        page.heading("Today")

    await walked(browser, service.url, tmp_path, walk)


async def test_a_role_that_must_have_a_second_factor_sets_it_up_first(
    service: Process, browser: Chrome, database: Database, tmp_path: Path
) -> None:
    grace = await person(database)
    await set_company(database, second_factor_from="STAFF")

    def walk(page: ConsolePage) -> None:
        page.open()
        page.sign_in(grace.email, THEIR_PASSWORD)
        page.heading("Set up a second factor")
        page.one("[autocomplete='current-password']").send_keys("not this one", Keys.ENTER)
        page.until(lambda: page.all("[aria-invalid='true']"))
        page.one("[autocomplete='current-password']").send_keys(
            Keys.CONTROL, "a", Keys.NULL, THEIR_PASSWORD, Keys.ENTER
        )
        secret = page.one(".secret").text.replace(" ", "")
        page.one("[autocomplete='one-time-code']").send_keys(Device(secret, []).code(0), Keys.ENTER)
        assert len(page.until(lambda: page.all(".codes li"))) == 10
        page.one("button.primary").click()
        page.heading("Today")
        page.one("dl.figures")

    await walked(browser, service.url, tmp_path, walk)


async def test_a_role_shows_what_it_may_do_and_one_that_is_taken_away_ends_the_session(
    service: Process, browser: Chrome, database: Database, tmp_path: Path
) -> None:
    grace = await person(database)

    def as_staff(page: ConsolePage) -> None:
        page.open()
        page.sign_in(grace.email, THEIR_PASSWORD)
        page.heading("Today")
        assert "Cluster" not in page.text()
        page.one("a[href$='/post/in']").click()
        page.heading("Receipt")
        assert "Adjustment" not in page.text()
        page.open("/stock/post/adjustment")
        page.heading("No such page")
        page.open("/stock")
        page.heading("Stock")

    await walked(browser, service.url, tmp_path, as_staff)
    async with httpx.AsyncClient(base_url=service.url) as client:
        pair = await client.post("/api/v1/auth/login", data={"username": EMAIL, "password": PASSWORD})
        headers = {"Authorization": f"Bearer {pair.json()['access_token']}"}
        body = {"role": "VIEWER", "reason": "left the warehouse"}
        answer = await client.post(f"/api/v1/users/{grace.id}/role", json=body, headers=headers)
        assert answer.status_code == 200, answer.text

    def afterwards(page: ConsolePage) -> None:
        page.field("username") if page.all("[name='username']") else page.one("#search").send_keys("bean")
        page.until_text("your rights have changed")
        page.sign_in(grace.email, THEIR_PASSWORD)
        page.heading("Stock")
        assert not page.all("a[href$='/post/in']")

    await walked(browser, service.url, tmp_path, afterwards)


async def test_a_scanner_alone_books_several_items_into_one_location(
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

    await walked(browser, service.url, tmp_path, walk)
    assert await entries(owner, "DELIVERY-7") == [("IN", "4"), ("IN", "2")]


async def test_a_double_click_and_a_lost_answer_book_once(
    service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> None:
        page.open("/stock/post/in")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Receipt")
        fill(page, "TWICE", "5")
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
        fill(page, "LOST", "6")
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


def fill(page: ConsolePage, reference: str, quantity: str) -> None:
    values = {"location": PLACE, "reference_no": reference, "item": SKU, "quantity": quantity, "unit_cost": "1"}
    for name, value in values.items():
        page.field(name).clear()
        page.field(name).send_keys(value, Keys.TAB)
        if name == "item":
            page.until_text(NAME)
    page.settle()


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

    await walked(browser, service.url, tmp_path, walk)


def rows(page: ConsolePage) -> list[str]:
    return list(
        page.chrome.execute_script("return [...document.querySelectorAll('tbody tr')].map(row => row.innerText)")
    )


async def test_an_export_is_watched_from_today_to_its_end(
    stocked: Settings, service: Process, browser: Chrome, tmp_path: Path
) -> None:
    def submit(page: ConsolePage) -> None:
        page.open()
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Today")
        pair = httpx.post(f"{service.url}/api/v1/auth/login", data={"username": EMAIL, "password": PASSWORD}).json()
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        body = {"dataset": "stock_movements"}
        httpx.post(f"{service.url}/api/v1/exports/jobs", json=body, headers=headers).raise_for_status()
        page.until(lambda: page.all(".export .queued"))

    await walked(browser, service.url, tmp_path, submit)
    async with worker(stocked, tmp_path / "worker"):
        await walked(browser, service.url, tmp_path, lambda page: page.one(".export .succeeded"))


async def test_today_needs_few_requests_and_goes_on_when_the_network_comes_back(
    service: Process, browser: Chrome, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> tuple[list[str], int]:
        page.open()
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Today")
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


NUMBERS = [
    ("en", "decimal", "12345678901234567.123456", {}, "12,345,678,901,234,567.123456"),
    ("de", "decimal", "12345678901234567.123456", {}, "12.345.678.901.234.567,123456"),
    ("en", "decimal", "-0.5", {}, "-0.5"),
    ("en", "decimal", "0.1", {"most": 0}, "0"),
    ("en", "decimal", "-0.04", {"most": 1}, "0"),
    ("en", "decimal", "999.995", {"most": 2, "least": 2}, "1,000.00"),
    ("en", "decimal", "9007199254740993", {}, "9,007,199,254,740,993"),
    ("en", "decimal", "7", {"signDisplay": "exceptZero"}, "+7"),
    ("en", "decimal", "0", {"signDisplay": "exceptZero"}, "0"),
    ("en", "typedDecimal", "1,500", None, None),
    ("en", "typedDecimal", "1.500", None, "1.500"),
    ("de", "typedDecimal", "1.500", None, None),
    ("de", "typedDecimal", "1,500", None, "1.500"),
    ("de", "typedDecimal", " -12,5 ", None, "-12.5"),
    ("en", "typedDecimal", "1e3", None, None),
]


async def test_numbers_are_exact_in_each_language(service: Process, tmp_path: Path) -> None:
    def walk(language: str, page: ConsolePage) -> None:
        page.open()
        page.one("[name=username]")
        url = f"{page.url}/console/assets/{ASSETS.named('format.js').served_as}"
        call = """const [url, name, text, options, done] = arguments
        import(url).then(format => done(format[name](text, options ?? undefined)))"""
        for wanted, name, text, options, expected in NUMBERS:
            if wanted == language:
                shown = page.chrome.execute_async_script(call, url, name, text, options)
                assert shown == expected, (language, name, text, options)

    for language in ("en", "de"):
        with chromium(language=language) as chrome:
            await walked(chrome, service.url, tmp_path, partial(walk, language))


VIEWS = {
    "": "dl.figures",
    "/stock": "tbody tr",
    "/stock/items/1": "svg path",
    "/stock/ledger": "tbody tr",
    "/stock/low": "tbody tr",
    "/stock/post/in": "[name=unit_cost]",
    "/stock/post/transfer": "[name=to_location]",
    "/stock/post/adjustment": "[name=reason]",
    "/nothing": "h1",
}


@pytest.mark.parametrize("language", ["en", "de"])
async def test_each_page_in_both_widths_and_themes(service: Process, language: str, tmp_path: Path) -> None:
    """Leaves a screenshot of each below the directory of the test. axe-core is there if ops/test-browser found npm."""
    axe = os.environ.get("ERP_TEST_AXE")

    def walk(page: ConsolePage) -> list[str]:
        page.open()
        page.one("[name=username]")
        faults = looked_at(page, f"{language}-sign-in")
        page.sign_in(EMAIL, PASSWORD)
        page.one("header nav")
        for path, shows in VIEWS.items():
            page.open(path)
            page.one(shows)
            page.settle()
            faults += looked_at(page, f"{language}{path.replace('/', '-') or '-today'}")
        return faults

    def looked_at(page: ConsolePage, name: str) -> list[str]:
        faults = []
        for width in (1920, 360):
            for theme in ("light", "dark"):
                page.resize(width)
                page.prefer(theme)
                page.drawn()
                page.save(tmp_path / "screenshots" / f"{name}-{width}-{theme}.png")
                # in one language: only the texts differ
                found = page.faults_of_access(Path(axe)) if axe and language == "en" else []
                faults += [f"{name} at {width} in {theme}: {fault}" for fault in found]
                if page.overflow() > 0:
                    faults.append(f"{name} is {page.overflow()} pixels too wide at {width}")
        return faults

    with chromium("--hide-scrollbars", language=language) as chrome:
        faults = await walked(chrome, service.url, tmp_path, walk)
        assert faults == []
        assert console_errors(chrome) == []
        assert chrome.find_element(By.TAG_NAME, "html").get_attribute("lang") == language
