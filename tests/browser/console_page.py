"""The console as somebody in front of it: what they see, type and press."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

SECONDS = 60
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class ConsolePage:
    def __init__(self, chrome: Chrome, url: str) -> None:
        self.chrome, self.url = chrome, url

    def open(self, path: str = "") -> None:
        self.chrome.get(f"{self.url}/console{path}")

    def until(self, seen: Callable[[], Any]) -> Any:
        """The first true value of `seen`."""
        # a view may be replaced between finding an element and reading it
        ignored = [StaleElementReferenceException]
        return WebDriverWait(self.chrome, SECONDS, 0.05, ignored).until(lambda _: seen())

    def all(self, selector: str) -> list[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first that is there, waited for."""
        return self.until(lambda: self.all(selector))[0]  # type: ignore[no-any-return]

    def field(self, name: str) -> WebElement:
        return self.one(f"[name='{name}']")

    def text(self) -> str:
        return str(self.chrome.execute_script("return document.body.innerText"))

    def until_text(self, text: str) -> None:
        self.until(lambda: text in self.text())

    def heading(self, text: str) -> None:
        """Waits for a view with this heading, and for all that it loads."""
        self.until(lambda: [h for h in self.all("h1") if h.text == text])
        self.settle()

    def settle(self) -> None:
        self.until(lambda: not self.all("[aria-busy='true']"))

    def until_preloaded(self) -> None:
        """Waits for what other pages need, which comes after the first one is there."""
        links = "[...document.querySelectorAll('link[rel=modulepreload]')]"
        has_come = "performance.getEntriesByName(link.href).some((entry) => entry.responseEnd > 0)"
        self.until(lambda: self.chrome.execute_script(f"return {links}.every((link) => {has_come})"))

    def sign_in(self, email: str, password: str) -> None:
        self.field("username").send_keys(email)
        self.field("password").send_keys(password, Keys.ENTER)

    def focused(self) -> str:
        return str(
            self.chrome.execute_script("return document.activeElement.name || document.activeElement.textContent")
        )

    def scan(self, code: str) -> None:
        """A scanner types into whatever has the focus, and presses Enter."""
        self.chrome.switch_to.active_element.send_keys(code, Keys.ENTER)

    def retype(self, name: str, text: str) -> None:
        """In place of what is there, and Enter."""
        self.field(name).send_keys(Keys.CONTROL, "a", Keys.NULL, text, Keys.ENTER)

    def until_focused(self, name: str) -> None:
        self.until(lambda: self.focused() == name)

    def resize(self, width: int, height: int = 1000) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, theme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def cut_network(self, *, cut: bool) -> None:
        conditions = {"offline": cut, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.chrome.execute_cdp_cmd("Network.enable", {})
        self.chrome.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)

    def faults_of_access(self, axe: Path) -> list[str]:
        """What axe-core finds, with the elements at fault."""
        self.chrome.execute_script(axe.read_text())
        run = "const done = arguments[1]; axe.run({runOnly: arguments[0]}).then(found => done(found.violations))"
        found = self.chrome.execute_async_script(run, STANDARDS)
        return [f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes']]}" for each in found]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.chrome.execute_script("return document.documentElement.scrollWidth - innerWidth"))

    def drawn(self) -> None:
        """Waits for two frames, so that a change of size or theme is on the screen."""
        script = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        self.chrome.execute_async_script(script)
        running = "return document.getAnimations().some(each => each.playState === 'running')"
        self.until(lambda: not self.chrome.execute_script(running))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.chrome.save_screenshot(str(path))
