"""/api/v1/exports/jobs/{id}/download-url: addresses that need no token."""

import time
from datetime import UTC, datetime
from typing import Any

from litestar import Request
from litestar.di import NamedDependency

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.db.sessions import WriteSession
from erp_service.errors import Forbidden, TooMany
from erp_service.exports import queries, service
from erp_service.exports.delivery.signed_urls import SECONDS, Signed, SignedUrls
from erp_service.exports.problems import ExportExpired
from erp_service.exports.routes import ONE, SIGNED_ADDRESSES, TAGS, ExportId
from erp_service.exports.schemas import SignedAddress
from erp_service.settings import Settings
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import post


@post(
    f"{ONE}/download-url",
    role=Role.VIEWER,
    scope=Keys.NONE,
    summary="An address that needs no token",
    tags=TAGS,
    status_code=200,
    problems=(Forbidden, ExportExpired, TooMany),
    idempotent=False,
    guards=[SIGNED_ADDRESSES],
    operation_id="create_download_url",
)
async def download_url(
    request: Request[Principal, Any, Any],
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    settings: NamedDependency[Settings],
    signed_urls: NamedDependency[SignedUrls],
    export_id: ExportId,
) -> ApiResponse[SignedAddress]:
    """Valid for five minutes, for GET and HEAD, for everybody who has the address: treat it like the file itself.

    It works while your rights stay as they are now, which each use checks. An export that still runs has its address
    already: the file is there once the export has succeeded."""
    await service.record_signed_address(write, who, export_id)
    expires_at = int(time.time()) + SECONDS
    signed = Signed(request.auth.user_id, request.auth.version, expires_at, request.auth.family)
    path, root = f"{queries.PATH}/{export_id}", (settings.public_url or "").rstrip("/")
    download, events = (root + signed_urls.sign(f"{path}/{name}", signed) for name in ("download", "events"))
    address = SignedAddress(download, events, datetime.fromtimestamp(expires_at, UTC))
    return ApiResponse(address, headers={"Cache-Control": "no-store"})


ROUTES = [download_url]
