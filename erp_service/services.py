"""What an instance of the API is composed of: built here, for processes and tests alike, and found by type everywhere
else. What a worker is composed of: worker_services.py."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from erp_service.access.keys import KeyCache
from erp_service.access.principals import AuthorityCache
from erp_service.access.revocations import Revocations
from erp_service.auth.api_keys.uses import KeyUses
from erp_service.auth.authority.loader import AuthorityLoader, KeyLoader, RevocationLoader
from erp_service.auth.authority.without_primary import access_without_primary
from erp_service.auth.credentials import Access
from erp_service.auth.login.context import LoginContext
from erp_service.auth.passwords import Passwords
from erp_service.auth.second_factor.encryption import SecretBox
from erp_service.auth.second_factor.rotation import renewing
from erp_service.auth.tokens import Tokens
from erp_service.company.current import CurrentSettings
from erp_service.db.engine import Database
from erp_service.db.notifications import NotificationListener
from erp_service.events.feed import Feed
from erp_service.events.webhooks.context import WebhookContext, webhook_context
from erp_service.exports.context import ExportContext
from erp_service.exports.delivery.live_status import JobSource, LiveStatus
from erp_service.exports.delivery.signed_urls import SignedUrls
from erp_service.exports.models import CHANNEL as EXPORTS_CHANNEL
from erp_service.exports.queries import newer as newer_exports
from erp_service.exports.storage.registry import StoreIdentityCheck, open_store
from erp_service.features import FEATURES
from erp_service.imports.jobs.queries import newer as newer_imports
from erp_service.imports.models import CHANNEL as IMPORTS_CHANNEL
from erp_service.operations.cluster_metrics import ClusterMetrics
from erp_service.operations.readiness import ProbeDatabase, Readiness
from erp_service.registry.feature import load
from erp_service.registry.figures import FigureReader
from erp_service.registry.services import ServiceSet
from erp_service.settings import Settings, with_secret
from erp_service.web.request_limits.limiter import Limits, RequestLimiter

FOLLOWED = (JobSource(EXPORTS_CHANNEL, newer_exports), JobSource(IMPORTS_CHANNEL, newer_imports))
"""The jobs whose status is followed live."""


class Services(ServiceSet, frozen=True):
    """One instance of the API. Each field is a dependency of handlers, by its name."""

    settings: Settings
    database: Database
    notifications: NotificationListener
    company_settings: CurrentSettings
    access: Access
    request_limiter: RequestLimiter
    login: LoginContext
    signed_urls: SignedUrls
    exports: ExportContext
    webhooks: WebhookContext
    live_status: LiveStatus
    feed: Feed
    probes: ProbeDatabase
    readiness: Readiness
    cluster_metrics: ClusterMetrics


def build_services(settings: Settings) -> Services:
    """Connects to nothing yet.

    Raises SettingsError if tokens cannot be signed safely, or the store is of no known kind."""
    settings = with_secret(settings)
    database = Database(settings)
    notifications = NotificationListener(settings.listen_url)
    tokens, signed_urls = Tokens(settings), SignedUrls(settings)
    store = open_store(settings)
    # LiveStatus acts on the same notifications, and asks the authorities then: they must be notified first
    revocation_loader = RevocationLoader(database.read)
    revocations = Revocations(notifications, revocation_loader.recent, revocation_loader.is_revoked)
    authorities = AuthorityCache(notifications, AuthorityLoader(database.read).load, revocations)
    company = CurrentSettings(notifications, database)
    keys, key_uses = KeyCache(notifications, KeyLoader(database.read).load), KeyUses(database)
    access = Access(tokens, keys, key_uses, authorities, signed_urls)
    if settings.replica_url is not None:
        alone = access_without_primary(access, database, settings.listen_url)
        access = msgspec.structs.replace(access, without_primary=alone)
    probes = ProbeDatabase(settings)
    readiness = Readiness(probes, [StoreIdentityCheck(probes, store)], database.may_be_read_alone)
    return Services(
        settings=settings,
        database=database,
        notifications=notifications,
        company_settings=company,
        access=access,
        request_limiter=RequestLimiter(settings, lambda: _request_limits(company), is_away=lambda: database.is_away),
        signed_urls=signed_urls,
        login=LoginContext(settings, database, Passwords(), tokens, revocations, SecretBox(settings)),
        exports=ExportContext(settings, database, store),
        webhooks=webhook_context(settings, database),
        live_status=LiveStatus(
            database,
            notifications,
            readiness.stopping,
            FOLLOWED,
            most=settings.event_streams,
            most_per_user=settings.event_streams_per_user,
        ),
        feed=Feed(
            notifications,
            readiness.stopping,
            most=settings.event_streams,
            most_per_user=settings.event_streams_per_user,
        ),
        probes=probes,
        readiness=readiness,
        cluster_metrics=ClusterMetrics(probes, load(FEATURES, "figures", FigureReader)),
    )


def _request_limits(company: CurrentSettings) -> Limits:
    if (settings := company.soon()) is None:
        # those of the company may be higher than the defaults: a new instance must refuse nobody by mistake
        return Limits(None, None)
    return Limits(settings.requests_per_minute_per_user, settings.requests_per_minute_per_key)


@asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Listens for notifications, follows exports, and counts requests and uses of keys inside; closes everything in the
    end."""
    try:
        async with (
            services.notifications.listening(),
            services.live_status.running(),
            services.feed.running(),
            services.request_limiter.running(),
            services.access.key_uses.running(),
            renewing(services.database, services.login.secret_box),
        ):
            await services.company_settings.prepare()
            yield
    finally:
        services.login.passwords.close()
        services.webhooks.sender.close()
        await services.exports.store.close()
        await services.probes.close()
        await services.database.close()
