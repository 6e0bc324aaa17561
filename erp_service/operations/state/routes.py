"""The route of the state of the cluster."""

from litestar.di import NamedDependency

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.engine import Database
from erp_service.db.notifications import NotificationListener
from erp_service.db.sessions import ReadSession
from erp_service.operations.state import queries
from erp_service.operations.state.schemas import OperationsState
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get


@get(
    "/api/v1/operations/state",
    role=Role.ADMIN,
    scope=Scope.OPERATIONS_READ,
    summary="The whole cluster at a glance",
    tags=["operations"],
    operation_id="get_operations_state",
)
async def get_state(
    read: NamedDependency[ReadSession],
    database: NamedDependency[Database],
    notifications: NamedDependency[NotificationListener],
) -> ApiResponse[OperationsState]:
    """Instances, workers, queues and servers of the database, and when the last backup, the last seal and the last
    `erp verify` were.

    A backup or a verification is known here if it could leave a record in this database: one that could not, did its
    work all the same, and said so where it ran. After a restore these are the records of the time of the backup."""
    return ApiResponse(await queries.read_state(read, database, notifications))


ROUTES = [get_state]
