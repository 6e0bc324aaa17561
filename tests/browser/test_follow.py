"""The documented code of a page that follows an export, in headless Chromium with its own EventSource."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.exports.delivery.signed_urls import Signed, SignedUrls
from erp_service.settings import Settings
from tests.acceptance.instances import instance
from tests.support.users import make_user, token_of

DOCUMENT = Path(__file__).parents[2] / "ops" / "exports.md"

# the first address is one that expires soon, the next ones are the service's
START = """
const [path, token, address] = arguments
const send = window.fetch
window.given = 0
window.fetch = async (...request) =>
  window.given++ ? send(...request) : new Response(JSON.stringify({events_url: address}), {status: 200})
window.shown = []
follow(path, () => ({Authorization: `Bearer ${token}`}), job => window.shown.push(job.status))
  .then(job => { window.end = job.status }, error => { window.end = String(error) })
"""


def documented() -> str:
    match = re.search(r"```js\n(.*?async function follow.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert match is not None
    return match[1]


def follow(url: str, path: str, token: str, address: str) -> Any:
    """Follows the export until its address was renewed, cancels it, and returns what the page has seen."""
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    browser = Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        browser.get(f"{url}/docs")
        wait = WebDriverWait(browser, 30)
        browser.execute_script(f"{documented()}\nwindow.follow = follow\n{START}", path, token, address)
        wait.until(lambda page: page.execute_script("return window.given") == 2)
        assert browser.execute_script("return window.end") is None
        headers = {"Authorization": f"Bearer {token}"}
        httpx.post(f"{url}{path}/cancel", headers=headers).raise_for_status()
        wait.until(lambda page: page.execute_script("return window.end"))
        return browser.execute_script("return [window.end, window.shown, window.given]")
    finally:
        browser.quit()


async def test_page_goes_on_at_another_address_when_its_own_expires(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    user = await make_user(database, Role.VIEWER)
    token = token_of(settings, user)
    async with instance(settings, tmp_path / "log") as service:
        async with httpx.AsyncClient(base_url=service.url, headers={"Authorization": f"Bearer {token}"}) as client:
            answer = await client.post("/api/v1/exports/jobs", json={"dataset": "items"})
        path = answer.json()["links"]["self"]
        address = SignedUrls(settings).sign(f"{path}/events", Signed(user, 1, int(time.time()) + 6, UUID(int=0)))
        seen = await asyncio.to_thread(follow, service.url, path, token, address)
    # nothing came twice: the second stream began after what the first one had shown
    assert seen == ["canceled", ["queued"], 2]
