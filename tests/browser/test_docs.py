"""/docs in headless Chromium, with no network but the service itself."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as seen
from selenium.webdriver.support.wait import WebDriverWait

from tests.acceptance.instances import Process
from tests.browser.chromium import console_errors, network_events
from tests.browser.people import EMAIL, PASSWORD


async def test_docs_render_and_authorize_signs_in(service: Process, browser: Chrome, tmp_path: Path) -> None:
    try:
        await asyncio.to_thread(_walk, browser, service.url)
    except BaseException:
        browser.save_screenshot(str(tmp_path / "failed.png"))
        raise
    events = network_events(browser)
    requested = [params["request"]["url"] for name, params in events if name == "Network.requestWillBeSent"]
    origin = urlsplit(service.url).netloc
    assert {urlsplit(u).netloc for u in requested if u.startswith("http")} == {origin}
    # the browser counts the wrong password as one
    severe = [line for line in console_errors(browser) if "401" not in line]
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
