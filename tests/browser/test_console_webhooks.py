"""The console in headless Chromium: webhooks, from the first test to the event that was not taken and comes again."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys
from standardwebhooks import Webhook

from erp_service.settings import Settings
from tests.acceptance.instances import Process, worker
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import walked
from tests.events.webhooks.receiving import Receiver, Reply, receiving


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, webhook_networks="127.0.0.1")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def press(page: ConsolePage, label: str) -> None:
    page.until(lambda: [each for each in page.all("main button, dialog button") if each.text == label])[0].click()


def rows(page: ConsolePage) -> list[str]:
    """The deliveries, newest first."""
    script = """return [...document.querySelectorAll('tbody tr')].map(
        row => [2, 3, 4, 5].map(number => row.cells[number].innerText.split(' · ')[0]).join(' ').trim())"""
    return list(page.chrome.execute_script(script))


def items(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = client.get(path).json()["items"]
    return listed


def happens(client: httpx.Client, number: int) -> None:
    client.patch("/inventory/items/1", json={"reorder_point": str(number)}).raise_for_status()


async def test_a_webhook_from_its_first_test_to_the_event_that_was_not_taken_and_comes_again(
    service: Process, client: httpx.Client, settings: Settings, receiver: Receiver, browser: Chrome, tmp_path: Path
) -> None:
    def create(page: ConsolePage) -> str:
        page.open("/webhooks")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Webhooks")
        press(page, "New webhook")
        page.until(lambda: page.focused() == "url")
        page.field("url").send_keys(receiver.url(), Keys.ENTER)
        # none of the types is chosen
        page.until(lambda: page.all("[aria-invalid=true]"))
        page.field("item.updated").click()
        page.save(tmp_path / "screenshots" / "new.png")
        press(page, "Create")
        secret = page.one("code.secret").text
        page.save(tmp_path / "screenshots" / "secret.png")
        page.one("main .notice a").click()
        page.heading(receiver.url())
        press(page, "Send a test")
        page.until_text("The test was taken: 204")
        return secret

    secret = await walked(browser, service.url, tmp_path, create)
    (test,) = receiver.requests
    assert Webhook(secret).verify(test.raw, test.headers)["type"] == "webhook.test"

    def refuse(page: ConsolePage) -> None:
        happens(client, 1)
        page.until(lambda: rows(page) == ["item.updated 1 204"])
        receiver.answer = lambda _: Reply(500, {}, b"no more\nshelves")
        happens(client, 2)
        page.until(lambda: "item.updated 1 500 no more shelves" in rows(page))
        page.until_text("not taken (")
        page.save(tmp_path / "screenshots" / "refused.png")

    def replay(page: ConsolePage) -> None:
        receiver.answer = lambda _: Reply()
        press(page, "Deliver from there")
        page.until_text("Deliver from position")
        page.one("dialog .primary").click()
        page.until(lambda: rows(page)[0] == "item.updated 1 204")
        page.until(lambda: "not taken (" not in page.text())

    async with worker(settings, tmp_path / "worker.log"):
        await walked(browser, service.url, tmp_path, refuse)
        await walked(browser, service.url, tmp_path, replay)
    (made,) = items(client, "/webhooks")
    assert (made["types"], made["lag"], made["last_error"]) == (["item.updated"], 0, None)
    attempts = items(client, f"/webhooks/{made['id']}/deliveries")
    assert [each["status"] for each in attempts if each["attempt"] == 1] == [204, 500, 204]

    def rotate(page: ConsolePage) -> str:
        # what somebody else has changed meanwhile is not written over
        client.patch(f"/webhooks/{made['id']}", json={"description": "The shop"}).raise_for_status()
        page.field("description").send_keys("mine")
        press(page, "Save")
        page.until_text("The shop · item.updated · active. Save again")
        assert page.field("description").get_attribute("value") == "mine"
        press(page, "New secret")
        page.one("dialog .primary").click()
        page.until_text("The one before it is valid until")
        page.save(tmp_path / "screenshots" / "rotated.png")
        second = page.one("code.secret").text
        press(page, "Delete")
        page.one("dialog .primary").click()
        page.until_text("Nothing here yet")
        return second

    assert await walked(browser, service.url, tmp_path, rotate) != secret
    assert items(client, "/webhooks") == []
