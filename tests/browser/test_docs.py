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

from erp_service.auth.users import first_super_admin
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone.demo import load_colleague, load_demo
from tests.acceptance.instances import Process, instance

EMAIL, PASSWORD = "owner@example.com", "a long enough phrase for a browser"


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
    await first_super_admin(database, EMAIL, PASSWORD)
    await load_demo(settings.database_url)
    await load_colleague(database)
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
    # the browser counts the wrong password as one
    severe = [line for line in logs("browser") if line["level"] == "SEVERE" and "401" not in line["message"]]
    assert not severe, severe


def _walk(browser: Chrome, url: str) -> None:
    wait = WebDriverWait(browser, 60)
    browser.get(f"{url}/docs")
    wait.until(seen.presence_of_element_located((By.CSS_SELECTOR, ".opblock")))
    assert "erp_service" in browser.find_element(By.CSS_SELECTOR, ".info .title").text

    browser.find_element(By.CSS_SELECTOR, ".auth-wrapper .authorize").click()
    email = wait.until(seen.element_to_be_clickable((By.ID, "oauth_username")))
    assert browser.switch_to.active_element == email, "the dialog opens on e-mail and password"
    inputs = browser.find_elements(By.CSS_SELECTOR, ".modal-ux input")
    assert [field.get_attribute("id") for field in inputs] == ["oauth_username", "oauth_password", ""]
    email.send_keys(EMAIL)
    secret = browser.find_element(By.ID, "oauth_password")
    secret.send_keys("not the password")
    browser.find_element(By.CSS_SELECTOR, ".modal-btn.authorize").click()
    wait.until(
        seen.text_to_be_present_in_element((By.CSS_SELECTOR, ".modal-ux .errors"), "E-mail or password is wrong")
    )
    secret.clear()
    secret.send_keys(PASSWORD)
    browser.find_element(By.CSS_SELECTOR, ".modal-btn.authorize").click()
    # signed in, the dialog offers to log out
    wait.until(seen.text_to_be_present_in_element((By.CSS_SELECTOR, ".auth-btn-wrapper"), "Logout"))
    assert not browser.find_elements(By.CSS_SELECTOR, ".modal-ux .errors")
    browser.find_element(By.CSS_SELECTOR, ".btn-done").click()

    assert EMAIL in _executed(browser, wait, "getOwnProfile")
    # as they are offered, with nothing typed
    for operation in ("createItem", "receiveStock", "submitExport", "changeUserRole"):
        status = _executed(browser, wait, operation).split()[0]
        assert status in ("200", "201", "202"), f"{operation}: {status}"


def _executed(browser: Chrome, wait: WebDriverWait[Chrome], operation: str) -> str:
    """Open an operation, execute it as it stands, and return the status and the text of its answer."""
    block = f"[id$='-{operation}']"
    head = wait.until(seen.presence_of_element_located((By.CSS_SELECTOR, f"{block} .opblock-summary-control")))
    browser.execute_script("arguments[0].click()", head)
    execute = wait.until(seen.presence_of_element_located((By.CSS_SELECTOR, f"{block} .execute")))
    browser.execute_script("arguments[0].click()", execute)
    answer = (By.CSS_SELECTOR, f"{block} .live-responses-table tbody .response")
    return wait.until(seen.presence_of_element_located(answer)).text
