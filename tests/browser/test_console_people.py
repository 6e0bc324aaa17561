"""The console in headless Chromium: people, their keys, the own account, and the company's settings."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.console.routes import ASSETS
from erp_service.db.engine import Database
from tests.acceptance.instances import Process
from tests.auth.devices import Device, log_in
from tests.auth.people import PASSWORD as THEIR_PASSWORD
from tests.auth.people import bearer
from tests.browser.camera import draw_codes, read_by_a_camera
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import person, walked

NEW_PASSWORD = "another phrase by the sea"


class Api:
    """The API, as the owner calls it."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.client.headers.update(bearer(self.log_in(EMAIL, PASSWORD).json()))

    def log_in(self, email: str, password: str) -> httpx.Response:
        return self.client.post("/api/v1/auth/login", data={"username": email, "password": password})

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, path: str, **values: Any) -> None:
        answer = self.client.patch(f"/api/v1{path}", json=values)
        assert answer.status_code == 200, answer.text


@pytest.fixture
def api(service: Process) -> Iterator[Api]:
    with httpx.Client(base_url=service.url) as client:
        yield Api(client)


def button(page: ConsolePage, text: str) -> WebElement:
    """The one that can be seen and says this."""
    found: WebElement = page.until(
        lambda: [each for each in page.all("button, summary") if each.text == text and each.is_displayed()]
    )[0]
    return found


def answer_yes(page: ConsolePage) -> None:
    page.one("dialog[open] button.primary").click()
    page.until(lambda: not page.all("dialog"))


def write(page: ConsolePage, name: str, text: str) -> None:
    page.field(name).send_keys(Keys.CONTROL, "a", Keys.NULL, text)


def set_date(page: ConsolePage, name: str, day: str) -> None:
    page.chrome.execute_script(f"document.querySelector('[name={name}]').value = arguments[0]", day)


def choose(page: ConsolePage, name: str, value: str) -> None:
    Select(page.field(name)).select_by_value(value)


async def test_a_new_person_signs_in_with_the_password_that_was_shown_once_and_changes_it(
    service: Process, api: Api, browser: Chrome, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> None:
        page.open("/people")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("People")
        button(page, "New person").click()
        write(page, "email", EMAIL)
        write(page, "full_name", "Ada Marsh")
        button(page, "Create").click()
        page.until_text("The e-mail is in use")
        write(page, "email", "ada@example.com")
        button(page, "Create").click()
        page.until_text("It is not shown again")
        shown = page.one(".secret").text
        page.until(lambda: [row for row in page.all("tbody tr") if "Ada Marsh" in row.text])
        page.one("header button").click()
        page.sign_in("ada@example.com", shown)
        page.heading("Choose a new password")
        page.one("[autocomplete='current-password']").send_keys(shown)
        page.one("[autocomplete='new-password']").send_keys(NEW_PASSWORD, Keys.ENTER)
        page.heading("No such page")
        assert "Company" not in page.text(), "of staff"
        assert api.log_in("ada@example.com", shown).status_code == 401
        assert api.log_in("ada@example.com", NEW_PASSWORD).status_code == 200
        (ada,) = api.get("/users", q="ada")["items"]
        assert (ada["full_name"], ada["role"]) == ("Ada Marsh", "STAFF")

    await walked(browser, service.url, tmp_path, walk)


async def test_a_person_is_changed_by_two_at_once_gets_a_role_with_a_reason_and_is_let_in_no_more(
    service: Process, api: Api, browser: Chrome, database: Database, tmp_path: Path
) -> None:
    grace = await person(database)

    def walk(page: ConsolePage) -> None:
        path = f"/users/{grace.id}"
        page.open(f"/people/{grace.id}")
        page.sign_in(EMAIL, PASSWORD)
        page.one("[name='full_name']")
        api.change(path, full_name="Grace Brewster", email="grace@example.com")
        write(page, "full_name", "Grace Hopper")
        button(page, "Save").click()
        page.until_text("Somebody else has set this to “Grace Brewster”")
        assert page.field("email").get_attribute("value") == "grace@example.com", "was not touched here"
        button(page, "Save").click()
        page.heading("Grace Hopper")
        assert api.get(path)["email"] == "grace@example.com"

        choose(page, "role", "VIEWER")
        button(page, "Change the role").click()
        answer_yes(page)
        page.until(lambda: page.all("[name='reason'][aria-invalid='true']"))
        write(page, "reason", "works at the till only")
        button(page, "Change the role").click()
        answer_yes(page)
        page.until(lambda: not page.all("option[value='VIEWER']"))
        (entry,) = api.get("/audit", action="user.role_changed")["items"]
        assert (entry["reason"], entry["after"]["role"]) == ("works at the till only", "VIEWER")

        button(page, "Set a new password").click()
        answer_yes(page)
        shown = page.one(".secret").text
        assert api.log_in("grace@example.com", shown).status_code == 200
        button(page, "Deactivate").click()
        answer_yes(page)
        button(page, "Reactivate")
        assert api.log_in("grace@example.com", shown).status_code == 401
        # nobody may do these things to themselves
        page.open(f"/people/{api.get('/auth/me')['id']}")
        page.one("[name='full_name']")
        assert not page.all("[name='role']")
        assert "Deactivate" not in page.text()

    await walked(browser, service.url, tmp_path, walk)


async def test_a_key_is_shown_once_works_as_far_as_its_scopes_reach_and_is_revoked(
    service: Process, api: Api, browser: Chrome, tmp_path: Path
) -> None:
    def walk(page: ConsolePage) -> None:
        page.open("/keys")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("API keys")
        button(page, "New API key").click()
        scopes = {box.get_attribute("value"): box for box in page.all("[name='scopes']")}
        assert {*scopes} == {*Scope}
        write(page, "name", "label printer")
        button(page, "Create").click()
        page.until_text("This is needed.")
        scopes["items:read"].click()
        write(page, "networks", "127.0.0.1 10.0.0.1/24")
        button(page, "Create").click()
        page.until_text("did you mean 10.0.0.0/24")
        assert page.field("networks").get_attribute("aria-invalid") == "true"
        write(page, "networks", "127.0.0.1")
        button(page, "Create").click()
        key = page.one(".secret").text
        with httpx.Client(base_url=f"{service.url}/api/v1", headers={"Authorization": f"Bearer {key}"}) as program:
            assert program.get("/inventory/items").status_code == 200
            assert program.get("/inventory/stock/current").status_code == 403
            page.until_text("127.0.0.1/32")
            button(page, "Revoke").click()
            answer_yes(page)
            page.until_text("No keys.")
            page.until(lambda: program.get("/inventory/items").status_code == 401)
        page.chrome.refresh()
        page.heading("API keys")
        page.one("a[href$='?all']").click()
        page.until_text("revoked ")
        assert key not in page.text()

    await walked(browser, service.url, tmp_path, walk)


async def test_settings_are_changed_beside_others_and_days_are_closed(
    service: Process, api: Api, browser: Chrome, database: Database, tmp_path: Path
) -> None:
    admin = await person(database, Role.ADMIN)
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"

    def walk(page: ConsolePage) -> None:
        page.open("/settings")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Settings")
        api.change("/settings", company_name="Café Lumen", currency="EUR")
        write(page, "low_stock_threshold", "2,500")
        button(page, "Save").click()
        page.until_text("Not a number that can be read in one way only")
        write(page, "low_stock_threshold", "2.5")
        button(page, "Save").click()
        page.until_text("The resource has changed")
        assert page.field("company_name").get_attribute("value") == "Café Lumen"
        button(page, "Save").click()
        page.until_text("Saved.")
        write(page, "export_bytes_per_user", "1.5")
        page.field("export_bytes_per_user").send_keys(Keys.ENTER)
        page.until(lambda: len(page.all(".notice.good")) == 2)
        now = api.get("/settings")
        assert (now["company_name"], now["low_stock_threshold"]) == ("Café Lumen", "2.5")
        assert now["export_bytes_per_user"] == 1_500_000_000

        set_date(page, "closed_through", yesterday)
        page.field("reason").send_keys(Keys.ENTER)
        answer_yes(page)
        page.until_text("Nothing is posted to days up to")
        assert api.get("/settings")["closed_through"] == yesterday
        set_date(page, "closed_through", "")
        page.field("reason").send_keys(Keys.ENTER)
        page.until_text("Closed days open again")
        answer_yes(page)
        page.until(lambda: page.all("[name='reason'][aria-invalid='true']"))
        write(page, "reason", "an invoice came late")
        page.field("reason").send_keys(Keys.ENTER)
        answer_yes(page)
        page.until_text("All days are open.")
        assert api.get("/settings")["closed_through"] is None

        page.one("header button").click()
        page.sign_in(admin.email, THEIR_PASSWORD)
        page.heading("Settings")
        assert not page.field("second_factor_from").is_enabled()
        assert page.field("company_name").is_enabled()

    await walked(browser, service.url, tmp_path, walk)


async def test_ones_own_sign_in_elsewhere_is_ended_and_a_second_factor_is_set_up_and_removed(
    service: Process, api: Api, browser: Chrome, database: Database, tmp_path: Path
) -> None:
    grace = await person(database)
    async with httpx.AsyncClient(base_url=service.url) as client:
        elsewhere = (await log_in(client, grace.email, None)).json()

    def walk(page: ConsolePage) -> None:
        page.open("/account")
        page.sign_in(grace.email, THEIR_PASSWORD)
        page.heading("Your account")
        page.until_text("this device")
        button(page, "End").click()
        page.until(lambda: len(page.all("tbody tr")) == 1)
        refused = httpx.post(f"{service.url}/api/v1/auth/refresh", json={"refresh_token": elsewhere["refresh_token"]})
        assert refused.status_code == 401

        button(page, "Set up a second factor").click()
        page.one(".stack [autocomplete='current-password']:focus").send_keys(THEIR_PASSWORD, Keys.ENTER)
        device = Device(page.one(".secret").text.replace(" ", ""), [])
        assert read_by_a_camera(page, ".qr") == page.one("a[href^='otpauth:']").get_attribute("href")
        longest = "ß" + "a" * 211
        draw_codes(page, f"{service.url}/console/assets/{ASSETS.named('sign-in/qr.js').served_as}", longest, "a" * 214)
        assert read_by_a_camera(page, ".drawn-0 svg") == longest
        assert not page.all(".drawn-1 svg"), "one byte too many"
        page.one("[autocomplete='one-time-code']").send_keys(device.code(0), Keys.ENTER)
        codes = [each.text for each in page.until(lambda: page.all(".codes li"))]
        button(page, "I have them. Go on").click()
        page.until_text("Recovery codes left: 10.")
        button(page, "Remove").click()
        page.one("[autocomplete='current-password']:focus").send_keys(THEIR_PASSWORD)
        page.one("[autocomplete='one-time-code']").send_keys(codes[0], Keys.ENTER)
        page.until_text("Your password alone is enough to sign in.")

        old, new = page.all("input[type='password']")
        old.send_keys(THEIR_PASSWORD)
        new.send_keys(NEW_PASSWORD, Keys.ENTER)
        page.until_text("Your password is changed.")
        page.chrome.refresh()
        page.heading("Your account")
        assert api.log_in(grace.email, NEW_PASSWORD).status_code == 200

    await walked(browser, service.url, tmp_path, walk)
