"""An instance and a worker that may send to receivers of this host."""

import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from erp_service.events.webhooks.context import WebhookContext
from erp_service.events.webhooks.sending.addresses import read_networks
from erp_service.events.webhooks.sending.retries import Retries
from erp_service.events.webhooks.sending.sender import Sender
from erp_service.settings import Settings
from erp_service.worker_services import WorkerServices
from tests.events.webhooks.receiving import Receiver, receiving


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, webhook_networks="127.0.0.1")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def context(worker_services: WorkerServices) -> WebhookContext:
    """What a worker has for webhooks. It tries again at once, and for an hour."""
    sender = Sender(read_networks("127.0.0.1"), plain_http=True, seconds=5)
    retries = Retries(pauses=(0,), give_up_after=3600)
    return msgspec.structs.replace(worker_services.webhooks, sender=sender, retries=retries)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
