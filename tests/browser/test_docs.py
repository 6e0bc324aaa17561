"""/docs and /problems in headless Chromium, with no network but the service itself."""

import asyncio
import os
from pathlib import Path
from urllib.parse import urlsplit

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import expected_conditions as seen
from selenium.webdriver.support.wait import WebDriverWait

from tests.acceptance.instances import Process
from tests.browser.chromium import chromium, console_errors, network_events
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import walked


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


async def test_both_pages_have_one_frame_and_a_search(service: Process, tmp_path: Path) -> None:
    axe = os.environ.get("ERP_TEST_AXE")

    def walk(page: ConsolePage) -> list[str]:
        page.chrome.get(f"{page.url}/docs")
        page.one(".opblock")
        heads = [head(page)]
        page.field("q").send_keys("UNDO import")
        page.until_text("2 endpoints found")
        paths = [each.get_attribute("data-path") for each in page.all(".opblock-summary-path")]
        assert paths == ["/api/v1/imports/jobs/{job_id}", "/api/v1/imports/jobs/{job_id}/undo"]
        page.one(".opblock-summary-control").click()
        page.one(".execute")
        faults = looked_at(page, "docs")
        page.field("q").send_keys(" nothing has this")
        page.until_text("No endpoint has these words")
        # whoever chose a theme in the console has it here
        page.chrome.execute_script("localStorage.setItem('erp.console.theme', 'dark')")

        page.chrome.get(f"{page.url}/problems/insufficient-stock")
        scheme = "return getComputedStyle(document.documentElement).colorScheme"
        assert page.chrome.execute_script(scheme) == "dark"
        page.chrome.execute_script("localStorage.clear()")
        heads.append(head(page))
        page.field("q").send_keys("key ANOTHER method", Keys.ENTER)
        page.heading("What can go wrong")
        assert shown(page) == ["idempotency-key-reused"]
        faults += looked_at(page, "problems")
        heads.append(head(page))
        page.field("q").clear()
        page.field("q").send_keys("too many requests")
        page.until(lambda: len(shown(page)) > 5)
        assert [each.text for each in page.all(".problems h2") if each.is_displayed()] == ["429 Too Many Requests"]
        page.field("q").send_keys(" nothing has this")
        page.until_text("No problem has these words")
        assert heads == [heads[0]] * 3
        return faults

    def shown(page: ConsolePage) -> list[str]:
        return [each.text for each in page.all(".problems li a + code") if each.is_displayed()]

    def head(page: ConsolePage) -> list[tuple[str, str | None]]:
        links = page.all("header a:not(.skip), footer a[href$='json']")
        return [(each.text, each.get_attribute("href")) for each in links]

    def looked_at(page: ConsolePage, name: str) -> list[str]:
        faults = []
        for width, theme in ((1920, "light"), (360, "dark")):
            page.resize(width)
            page.prefer(theme)
            page.drawn()
            page.save(tmp_path / "screenshots" / f"{name}-{width}-{theme}.png")
            found = page.faults_of_access(Path(axe)) if axe else []
            faults += [f"{name} at {width} in {theme}: {fault}" for fault in found]
            if page.overflow() > 0:
                faults.append(f"{name} is {page.overflow()} pixels too wide at {width}")
        return faults

    with chromium("--hide-scrollbars") as chrome:
        assert await walked(chrome, service.url, tmp_path, walk) == []
        assert console_errors(chrome) == []
