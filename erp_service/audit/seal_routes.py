"""The routes of the chain over audit log and ledger: what each position covers, and its head, to keep elsewhere."""

from litestar.di import NamedDependency

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.audit import seal_queries
from erp_service.audit.schemas import SealHead, SealPage
from erp_service.db.sessions import ReadSession
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get

_SEALS = "/api/v1/audit/seals"


@get(
    _SEALS,
    role=Role.ADMIN,
    scope=Scope.AUDIT_READ,
    summary="The hash chain over audit log and ledger",
    tags=["audit"],
    operation_id="list_seals",
)
async def list_seals(
    read: NamedDependency[ReadSession], limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> ApiResponse[SealPage]:
    """Newest first. Each link is the SHA-256 of the link before it, of the other fields and of the digest of what is
    covered; `erp verify` computes all of them again."""
    return ApiResponse(await seal_queries.seals(read, limit=limit, cursor=cursor))


@get(
    f"{_SEALS}/head",
    role=Role.ADMIN,
    scope=Scope.AUDIT_READ,
    summary="The head of the chain",
    tags=["audit"],
    operation_id="get_seal_head",
)
async def get_head(read: NamedDependency[ReadSession]) -> ApiResponse[SealHead]:
    """Keep it where nobody who can change the database can change it, as `position:link`: `erp verify --head` proves
    later that everything up to it is as it was."""
    return ApiResponse(await seal_queries.head(read))


ROUTES = [list_seals, get_head]
