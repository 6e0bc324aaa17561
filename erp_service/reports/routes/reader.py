"""How a report reads: from a replica or the primary, and without a primary too, which its answer then says."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from litestar import Request
from litestar.di import Provide

from erp_service.company.current import CurrentSettings
from erp_service.company.settings import CompanySettings, company_settings
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ONLY_ERRORS, is_unavailable
from erp_service.db.sessions import ReadSession
from erp_service.web.dependencies import services_of

T = TypeVar("T")

AS_OF = "Erp-Data-As-Of"
_AS_OF = b"erp-data-as-of"


class ReportReader:
    """Of one request, whose scope has this `state`."""

    def __init__(self, database: Database, company: CurrentSettings, state: dict[str, Any]) -> None:
        self._database, self._company, self._state = database, company, state

    async def settings(self) -> CompanySettings:
        """The company's. Raises what the database raises."""
        try:
            return await self._company.now()
        except DATABASE_ONLY_ERRORS as exc:
            if not is_unavailable(exc):
                raise
            return await self.read(company_settings)

    async def read(self, read: Callable[[ReadSession], Awaitable[T]]) -> T:
        """The result of `read`, as of Database.reading. Raises what the database raises."""
        return await self._database.reading(read, as_of=self._note)

    def _note(self, at: datetime) -> None:
        text = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._state["headers"] = {**self._state.get("headers", {}), _AS_OF: text.encode()}


def _reader(request: Request[Any, Any, Any]) -> ReportReader:
    services = services_of(request.app)
    return ReportReader(services.find(Database), services.find(CurrentSettings), request.scope["state"])


READER = {"reader": Provide(_reader, sync_to_thread=False)}
"""The dependency of a route `without_primary`: it gets nothing else of the database."""
