"""Walks through the console, in a thread of their own, and the people who walk."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from tests.auth.people import HASH, Person
from tests.browser.console_page import ConsolePage
from tests.support.users import make_user


async def person(database: Database, role: Role = Role.STAFF) -> Person:
    email = f"{role.lower()}@example.com"
    return Person(await make_user(database, role, email, HASH), email)


async def walked(chrome: Chrome, url: str, tmp_path: Path, walk: Callable[[ConsolePage], Any]) -> Any:
    """What `walk` returns. It runs in a thread; if it fails, a screenshot says where."""
    page = ConsolePage(chrome, url)
    try:
        return await asyncio.to_thread(walk, page)
    except BaseException:
        page.save(tmp_path / "failed.png")
        raise
