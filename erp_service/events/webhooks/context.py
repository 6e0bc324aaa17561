"""What webhooks need from the process in which they are sent."""

from msgspec import Struct

from erp_service.db.engine import Database
from erp_service.events.webhooks.sending.addresses import read_networks
from erp_service.events.webhooks.sending.retries import Retries
from erp_service.events.webhooks.sending.sender import Sender
from erp_service.settings import Settings, SettingsError


class Slice(Struct, frozen=True):
    """How long one job delivers to one endpoint, until others have their turn. `batch` is how many events are read at
    once."""

    events: int = 500
    seconds: float = 10.0
    batch: int = 50


class WebhookContext(Struct, frozen=True):
    """The same type for routes, tasks and background steps."""

    database: Database
    sender: Sender
    retries: Retries = Retries()
    slice: Slice = Slice()


def webhook_context(settings: Settings, database: Database) -> WebhookContext:
    """Connects to nothing yet. Raises SettingsError."""
    try:
        allowed = read_networks(settings.webhook_networks)
    except ValueError as exc:
        raise SettingsError(f"ERP_WEBHOOK_NETWORKS cannot be used: {exc}.") from None
    return WebhookContext(database, Sender(allowed, plain_http=settings.environment == "development"))
