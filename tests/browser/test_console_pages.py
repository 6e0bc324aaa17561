"""Each page of the console in headless Chromium: how it looks, what axe-core finds, and its numbers."""

import os
from functools import partial
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from erp_service.console.routes import ASSETS
from tests.acceptance.instances import Process
from tests.browser.chromium import chromium, console_errors
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import walked

NUMBERS = [
    ("en", "decimal", "12345678901234567.123456", {}, "12,345,678,901,234,567.123456"),
    ("de", "decimal", "12345678901234567.123456", {}, "12.345.678.901.234.567,123456"),
    ("en", "decimal", "-0.5", {}, "-0.5"),
    ("en", "decimal", "0.1", {"most": 0}, "0"),
    ("en", "decimal", "-0.04", {"most": 1}, "0"),
    ("en", "decimal", "999.995", {"most": 2, "least": 2}, "1,000.00"),
    ("en", "decimal", "9007199254740993", {}, "9,007,199,254,740,993"),
    ("en", "decimal", "7", {"signDisplay": "exceptZero"}, "+7"),
    ("en", "decimal", "0", {"signDisplay": "exceptZero"}, "0"),
    ("en", "typedDecimal", "1,500", None, None),
    ("en", "typedDecimal", "1.500", None, "1.500"),
    ("de", "typedDecimal", "1.500", None, None),
    ("de", "typedDecimal", "1,500", None, "1.500"),
    ("de", "typedDecimal", " -12,5 ", None, "-12.5"),
    ("en", "typedDecimal", "1e3", None, None),
]


async def test_numbers_are_exact_in_each_language(service: Process, tmp_path: Path) -> None:
    def walk(language: str, page: ConsolePage) -> None:
        page.open()
        page.one("[name=username]")
        url = f"{page.url}/console/assets/{ASSETS.named('core/format.js').served_as}"
        call = """const [url, name, text, options, done] = arguments
        import(url).then(format => done(format[name](text, options ?? undefined)))"""
        for wanted, name, text, options, expected in NUMBERS:
            if wanted == language:
                shown = page.chrome.execute_async_script(call, url, name, text, options)
                assert shown == expected, (language, name, text, options)

    for language in ("en", "de"):
        with chromium(language=language) as chrome:
            await walked(chrome, service.url, tmp_path, partial(walk, language))


VIEWS = {
    "": "dl.figures",
    "/stock": "tbody tr",
    "/stock/items/1": "svg path",
    "/stock/ledger": "tbody tr",
    "/stock/low": "tbody tr",
    "/stock/post/in": "[name=unit_cost]",
    "/stock/post/transfer": "[name=to_location]",
    "/stock/post/adjustment": "[name=reason]",
    "/nothing": "h1",
    "/operations": ".verdict",
    "/operations/jobs": "form.filters",
    "/imports": "[name=file]",
    "/people": "tbody tr",
    "/people/2": "[name=reason]",
    "/keys": "[name=networks]",
    "/account": "tbody tr",
    "/settings": "[name=closed_through]",
    "/audit": ".entry",
    "/audit/seals": "h1",
    "/webhooks": "h1",
    "/stock/counts": "datalist option",
    "/exports": "[name=format]",
    "/exports/schedules": "main .primary",
}


@pytest.mark.parametrize("language", ["en", "de"])
async def test_each_page_in_both_widths_and_themes(service: Process, language: str, tmp_path: Path) -> None:
    """Leaves a screenshot of each below the directory of the test. axe-core is there if ops/test-browser found npm."""
    axe = os.environ.get("ERP_TEST_AXE")

    def walk(page: ConsolePage) -> list[str]:
        page.open()
        page.one("[name=username]")
        faults = looked_at(page, f"{language}-sign-in")
        page.sign_in(EMAIL, PASSWORD)
        page.one("header nav")
        for path, shows in VIEWS.items():
            page.open(path)
            page.one(shows)
            page.settle()
            faults += looked_at(page, f"{language}{path.replace('/', '-') or '-today'}")
        return faults

    def looked_at(page: ConsolePage, name: str) -> list[str]:
        faults = []
        for width in (1920, 360):
            for theme in ("light", "dark"):
                page.resize(width)
                page.prefer(theme)
                page.drawn()
                page.save(tmp_path / "screenshots" / f"{name}-{width}-{theme}.png")
                # in one language: only the texts differ
                found = page.faults_of_access(Path(axe)) if axe and language == "en" else []
                faults += [f"{name} at {width} in {theme}: {fault}" for fault in found]
                if page.overflow() > 0:
                    faults.append(f"{name} is {page.overflow()} pixels too wide at {width}")
        return faults

    with chromium("--hide-scrollbars", language=language) as chrome:
        faults = await walked(chrome, service.url, tmp_path, walk)
        assert faults == []
        assert console_errors(chrome) == []
        assert chrome.find_element(By.TAG_NAME, "html").get_attribute("lang") == language
