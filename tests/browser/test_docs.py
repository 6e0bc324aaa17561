"""/docs in headless Chromium, with no network but the service itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as seen
from selenium.webdriver.support.wait import WebDriverWait

from erp_service.access.roles import Role
from erp_service.auth import passwords
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import Process, instance
from tests.support.users import make_user

PASSWORD = "a long enough phrase for a browser"


@pytest.fixture
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1400,2400",
        # no name but this machine's own resolves: the network is off
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield chrome
    chrome.quit()


@pytest.fixture
async def service(settings: Settings, database: Database, tmp_path: Path) -> AsyncIterator[Process]:
    await make_user(database, Role.ADMIN, "browser@example.com", passwords.hashed(PASSWORD))
    async with instance(settings, tmp_path / "log") as process:
        yield process


async def test_docs_render_and_authorize_signs_in(service: Process, browser: Chrome, tmp_path: Path) -> None:
    try:
        await asyncio.to_thread(_walk, browser, service.url)
    except BaseException:
        browser.save_screenshot(str(tmp_path / "failed.png"))
        raise
    logs: Callable[[str], list[dict[str, str]]] = browser.get_log
    requested = [
        entry["params"]["request"]["url"]
        for line in logs("performance")
        if (entry := json.loads(line["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    origin = urlsplit(service.url).netloc
    assert {urlsplit(u).netloc for u in requested if u.startswith("http")} == {origin}
    severe = [line for line in logs("browser") if line["level"] == "SEVERE"]
    assert not severe, severe


def _walk(browser: Chrome, url: str) -> None:
    wait = WebDriverWait(browser, 30)
    browser.get(f"{url}/docs")
    wait.until(seen.presence_of_element_located((By.CSS_SELECTOR, ".opblock")))
    assert "erp_service" in browser.find_element(By.CSS_SELECTOR, ".info .title").text

    browser.find_element(By.CSS_SELECTOR, ".auth-wrapper .authorize").click()
    wait.until(seen.presence_of_element_located((By.ID, "oauth_username"))).send_keys("browser@example.com")
    browser.find_element(By.ID, "oauth_password").send_keys(PASSWORD)
    browser.find_element(By.CSS_SELECTOR, ".modal-btn.authorize").click()
    # signed in, the dialog offers to log out
    wait.until(seen.text_to_be_present_in_element((By.CSS_SELECTOR, ".auth-btn-wrapper"), "Logout"))
    browser.find_element(By.CSS_SELECTOR, ".btn-done").click()

    block = wait.until(seen.presence_of_element_located((By.XPATH, "//span[@data-path='/api/v1/auth/me']")))
    block.click()
    wait.until(seen.element_to_be_clickable((By.CSS_SELECTOR, ".opblock.is-open .execute"))).click()
    body = (By.CSS_SELECTOR, ".opblock.is-open .live-responses-table")
    wait.until(seen.text_to_be_present_in_element(body, "browser@example.com"))
