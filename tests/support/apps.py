"""Instances of the API in the test's own process, composed by production's own builders."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx
from litestar import Litestar

from erp_service.app import create_app
from erp_service.services import Services, build_services
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.support.clients import client_of
from tests.support.databases import as_owner
from tests.support.settings import as_role, settings_for


@contextlib.asynccontextmanager
async def running(app: Litestar) -> AsyncIterator[None]:
    """Enters the app's lifespan. One task must open and close it, but a fixture's two halves run in two tasks."""
    up, down = asyncio.Event(), asyncio.Event()

    async def lifespan() -> None:
        async with app.lifespan():
            up.set()
            await down.wait()

    task, waiting = asyncio.create_task(lifespan()), asyncio.create_task(up.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    try:
        yield
    finally:
        down.set()
        await task


@contextlib.asynccontextmanager
async def fresh_instance(cluster: Cluster, template: str, name: str, directory: Path) -> AsyncIterator[Litestar]:
    """An instance with a database of its own, cloned from the template, for the many tests that store nothing."""
    await as_owner(cluster, f'create database "{name}" template "{template}"')
    app = create_app(build_services(as_role(settings_for(cluster, name, directory), "erp_api")))
    async with running(app):
        yield app


class SharedApp:
    """One app for all tests of a session, with services of its own for each test.

    `create_app` puts routes, middleware and plugins together, which takes longer than most tests. All of the state of
    an instance is in its Services, which handlers look up in `app.state` for each request, so an app whose services are
    replaced between two lifespans is another instance. Only what `create_app` itself reads of the settings stays."""

    def __init__(self, settings: Settings) -> None:
        self._assembled_with = settings
        self._app = create_app(build_services(settings))

    @contextlib.asynccontextmanager
    async def running(self, settings: Settings) -> AsyncIterator[Litestar]:
        """The app as an instance with these settings, inside its lifespan."""
        for name in ("body_limit", "cors_origins"):
            same = getattr(settings, name) == getattr(self._assembled_with, name)
            assert same, f"{name} is read when the app is assembled: call create_app for this test"
        self._app.state["services"] = build_services(as_role(settings, "erp_api"))
        async with running(self._app):
            yield self._app


def services_of(app: Litestar) -> Services:
    """What the app was composed with, for a test to look into or to break."""
    services = app.state["services"]
    assert isinstance(services, Services)
    return services


class Instances(NamedTuple):
    """Instances of the API over one database, and a client of each that is not signed in."""

    apps: list[Litestar]
    clients: list[httpx.AsyncClient]


@contextlib.asynccontextmanager
async def two_instances(settings: Settings) -> AsyncIterator[Instances]:
    settings = as_role(settings, "erp_api")
    first, second = create_app(build_services(settings)), create_app(build_services(settings))
    async with running(first), running(second), client_of(first) as one, client_of(second) as other:
        yield Instances([first, second], [one, other])
