"""A headless Chromium that reaches this machine alone."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

EVERYTHING = {"performance": "ALL", "browser": "ALL"}


@contextlib.contextmanager
def chromium(*arguments: str, language: str = "en") -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        # no name but this machine's own resolves: the network is off
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        *arguments,
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", EVERYTHING)
    chrome = Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield chrome
    finally:
        chrome.quit()


def network_events(chrome: Chrome) -> list[tuple[str, dict[str, Any]]]:
    """What the network did since the last call: the name of each event of Chrome's protocol, and its parameters."""
    log: Any = chrome.get_log("performance")  # type: ignore[no-untyped-call]
    messages = [json.loads(line["message"])["message"] for line in log]
    return [(each["method"], each["params"]) for each in messages if each["method"].startswith("Network.")]


def console_errors(chrome: Chrome) -> list[str]:
    """What the console said in red since the last call."""
    log: Any = chrome.get_log("browser")  # type: ignore[no-untyped-call]
    return [line["message"] for line in log if line["level"] == "SEVERE"]
