"""The console in headless Chromium, on real instances: signing in, staying so, and what ends it."""

from pathlib import Path

import asyncpg
import httpx
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from erp_service.console.routes import ASSETS
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import Process, instance
from tests.acceptance.wire import wire
from tests.auth.devices import Device, forget_steps, with_device
from tests.auth.people import PASSWORD as THEIR_PASSWORD
from tests.auth.people import actions
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import person, walked
from tests.support.company import set_company


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


async def test_a_refresh_whose_answer_was_lost_is_asked_for_again(
    service: Process, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    refresh = """const [url, done] = arguments
    import(url).then(({ refresh }) => refresh()).then(() => done("came"), error => done(error.constructor.name))"""

    async with wire(service.url) as between:

        def walk(page: ConsolePage) -> None:
            page.open("/stock/low")
            page.sign_in(EMAIL, PASSWORD)
            page.heading("To reorder")
            # Chromium itself asks again as long as it has a connection that was in use before
            between.answers_lost = 20
            module = f"{page.url}/console/assets/{ASSETS.named('core/session.js').served_as}"
            assert browser.execute_async_script(refresh, module) == "Offline"
            between.answers_lost = 0
            browser.refresh()
            page.heading("To reorder")

        await walked(browser, between.url, tmp_path, walk)
    used = await owner.fetchval("select count(*) from refresh_tokens where used_at is not null")
    assert used >= 2, "that of the cookie, and the one that never came"
    assert "user.refresh_token_reused" not in await actions(owner)


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
