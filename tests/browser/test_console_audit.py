"""The console in headless Chromium: who changed what, side by side, and the head of the chain, to keep elsewhere."""

from pathlib import Path
from typing import Any

import httpx
from selenium.webdriver import Chrome

from erp_service.audit.sealing.heads import KnownHead
from erp_service.settings import Settings
from tests.acceptance.instances import Process
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import walked
from tests.support.trail import seal_all

SKU = "BEAN-ESP-1K"


def got(client: httpx.Client, path: str, **query: str) -> dict[str, Any]:
    return dict(client.get(path, params=query).json())


def cells(page: ConsolePage) -> dict[str, list[str]]:
    """The values side by side, by the name of the field."""
    script = """return [...document.querySelectorAll('.entry[open] tbody tr')].map(
        row => [...row.cells].map(cell => cell.innerText))"""
    return {name: values for name, *values in page.chrome.execute_script(script)}


async def test_a_change_is_seen_side_by_side_and_the_filter_survives_a_reload(
    service: Process, client: httpx.Client, browser: Chrome, tmp_path: Path
) -> None:
    item = got(client, "/inventory/items", q=SKU)["items"][0]

    def change(**body: Any) -> dict[str, Any]:
        answer = client.patch(f"/inventory/items/{item['id']}", json=body)
        answer.raise_for_status()
        return dict(answer.json())

    changed = change(reorder_point="12345678901.25", metadata={"shelf": "B 7", "note": "line\n <b>two</b>"})

    def walk(page: ConsolePage) -> None:
        page.open("/audit")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Audit")
        page.field("action").send_keys("item.updated")
        page.field("entity_id").send_keys(str(item["id"]))
        page.one("form.filters button").click()
        page.until(lambda: len(page.all(".entry")) == 1)
        page.chrome.refresh()
        page.heading("Audit")
        assert page.field("action").get_attribute("value") == "item.updated"
        summary = page.one(".entry summary")
        assert {"Item updated", SKU} <= set(summary.text.splitlines()), summary.text
        summary.click()
        page.one(".entry del")
        assert cells(page) == {
            "reorder_point": [item["reorder_point"], "12345678901.25"],
            "metadata.shelf": ["", "B 7"],
            "metadata.note": ["", "line\n <b>two</b>"],
        }
        page.save(tmp_path / "screenshots" / "entry.png")
        page.one(".entry[open] button").click()
        page.until(lambda: cells(page).get("sku") == [SKU, SKU])
        assert cells(page)["version"] == [str(item["version"]), str(changed["version"])]
        # what comes later is announced, and shown when it is asked for
        change(name="House espresso")
        page.until_text("1 new")
        assert len(page.all(".entry")) == 1
        page.one("main button.primary").click()
        page.until(lambda: len(page.all(".entry")) == 2)
        page.all(".entry summary")[0].click()
        page.until(lambda: cells(page) == {"name": [item["name"], "House espresso"]})
        page.one(f".entry[open] a[href$='/stock/items/{item['id']}']").click()
        page.heading("House espresso")
        # from and to are times of the viewer; a filter that is refused says so at its field
        page.open("/audit?from=2000-01-01T00:00&to=2000-01-02T00:00")
        page.until_text("Nothing here yet.")
        page.open("/audit?from=2000-01-02T00:00&to=2000-01-01T00:00")
        page.until(lambda: page.all("form.filters .fault:not(:empty)"))

    await walked(browser, service.url, tmp_path, walk)


async def test_the_head_of_the_chain_is_that_of_the_api_and_its_file_is_one_that_verify_reads(
    service: Process, client: httpx.Client, settings: Settings, browser: Chrome, tmp_path: Path
) -> None:
    await seal_all(settings)
    files = tmp_path / "files"

    def walk(page: ConsolePage) -> str:
        where = {"behavior": "allow", "downloadPath": str(files)}
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
        page.open("/audit/seals")
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Seals")
        page.one("a[download]").click()
        page.until(lambda: list(files.glob("*.txt")))
        page.one(".card button").click()
        page.until_text("Copied")
        page.save(tmp_path / "screenshots" / "seals.png")
        return page.one("code.secret").text

    shown = await walked(browser, service.url, tmp_path, walk)
    head = got(client, "/audit/seals/head")
    assert shown == f"{head['position']}:{head['link']}"
    (file,) = files.glob("*.txt")
    assert str(KnownHead.read(file.read_text())) == shown
