"""The console in headless Chromium behind a balancer, while each instance is replaced by a new one."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from erp_service.settings import Settings
from tests.acceptance.instances import Process, answers, instance, worker
from tests.browser.beside import entries, submit_export
from tests.browser.console_page import ConsolePage
from tests.browser.people import EMAIL, PASSWORD
from tests.browser.walking import walked

PLACE, SKU = "MAIN-A-01", "BEAN-ESP-1K"
QUICKLY = {"ERP_DRAIN_SECONDS": "1"}


class Balancer:
    """Forwards each connection to an instance that says it is ready, in turn; one in use stays where it is."""

    def __init__(self, instances: list[Process]) -> None:
        self.url = ""
        self.instances = instances

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            target = urlsplit((await self._ready()).url)
            server, to_server = await asyncio.open_connection(target.hostname, target.port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(pump(client, to_server))
                    group.create_task(pump(server, to_client))
            except* OSError:
                pass
            finally:
                to_server.transport.abort()
        finally:
            to_client.transport.abort()

    async def _ready(self) -> Process:
        self.instances.append(self.instances.pop(0))
        for each in self.instances:
            if each.process.returncode is None and await answers(each, "/health/ready"):
                return each
        raise ConnectionRefusedError


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()


@contextlib.asynccontextmanager
async def balanced(*instances: Process) -> AsyncIterator[Balancer]:
    balancer = Balancer(list(instances))
    serving = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
    balancer.url = f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"
    try:
        yield balancer
    finally:
        serving.close()


async def test_a_roll_keeps_the_session_what_is_half_filled_and_what_is_followed_and_books_once(
    stocked: Settings, browser: Chrome, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    tabs = []

    def begin(page: ConsolePage) -> None:
        page.open()
        page.sign_in(EMAIL, PASSWORD)
        page.heading("Today")
        submit_export(page.url)
        page.until(lambda: page.all(".export .queued"))
        tabs.append(browser.current_window_handle)
        browser.switch_to.new_window("tab")
        tabs.append(browser.current_window_handle)
        page.open("/stock/post/out")
        page.heading("Issue")
        page.field("reference_no").send_keys("ROLL")
        page.field("location").click()
        page.scan(PLACE)
        half_fill(page, "2")

    def half_fill(page: ConsolePage, quantity: str) -> None:
        page.until_focused("item")
        page.scan(SKU)
        page.until_focused("quantity")
        browser.switch_to.active_element.send_keys(quantity)

    def go_on(page: ConsolePage) -> None:
        """Books what is half filled, and begins the next."""
        assert [page.field(name).get_attribute("value") for name in ("item", "quantity")] == [SKU, "2"]
        browser.switch_to.active_element.send_keys(Keys.ENTER)
        page.until_text("Posted: -2")
        half_fill(page, "3")

    def end(page: ConsolePage) -> None:
        assert [page.field(name).get_attribute("value") for name in ("item", "quantity")] == [SKU, "3"]
        browser.switch_to.active_element.send_keys(Keys.ENTER)
        page.until_text("Posted: -3")
        browser.switch_to.window(tabs[0])
        page.heading("Today")
        page.one(".export .queued")

    def after(page: ConsolePage) -> None:
        page.one(".export .succeeded")
        page.open("/stock/low")
        page.heading("To reorder")

    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(instance(stocked, tmp_path / "first", **QUICKLY))
        second = await stack.enter_async_context(instance(stocked, tmp_path / "second", **QUICKLY))
        balancer = await stack.enter_async_context(balanced(first, second))
        await walked(browser, balancer.url, tmp_path, begin)

        balancer.instances.append(await stack.enter_async_context(instance(stocked, tmp_path / "third", **QUICKLY)))
        first.signal(signal.SIGTERM)
        await walked(browser, balancer.url, tmp_path, go_on)
        assert await first.ended() == 0
        balancer.instances.append(await stack.enter_async_context(instance(stocked, tmp_path / "fourth", **QUICKLY)))
        second.signal(signal.SIGTERM)
        assert await second.ended() == 0
        await walked(browser, balancer.url, tmp_path, end)
        async with worker(stocked, tmp_path / "worker"):
            await walked(browser, balancer.url, tmp_path, after)
    assert await entries(owner, "ROLL") == [("OUT", "-2"), ("OUT", "-3")]
