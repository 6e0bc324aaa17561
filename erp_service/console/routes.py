"""/console: the page, for every address below it, and its files."""

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from litestar import MediaType, Request
from litestar.di import NamedDependency
from litestar.params import FromPath

from erp_service import errors
from erp_service.access.scopes import Keys
from erp_service.console.assets import Asset, Assets
from erp_service.console.page import CONTENT_POLICY, ENTRY, STYLE, base_of, render
from erp_service.settings import Settings
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC, get

# read and compressed when an instance starts
ASSETS = Assets(Path(__file__).parent / "assets")

_FOR_A_YEAR = "public, max-age=31536000, immutable"


@cache
def _page(base: str) -> tuple[str, str]:
    """The page, and its ETag."""
    page = render(ASSETS, base)
    return page, f'"{sha256(page.encode()).hexdigest()[:16]}"'


@get("/console", role=PUBLIC, scope=Keys.NONE, any_query=True, include_in_schema=False, media_type=MediaType.HTML)
async def console(settings: NamedDependency[Settings]) -> ApiResponse[str]:
    return _page_response(settings)


@get(
    "/console/{view:path}",
    role=PUBLIC,
    scope=Keys.NONE,
    any_query=True,
    include_in_schema=False,
    media_type=MediaType.HTML,
)
async def console_view(settings: NamedDependency[Settings], view: FromPath[str]) -> ApiResponse[str]:
    """Which view it is, the page itself finds out: a reload or a bookmark leads to the same one."""
    return _page_response(settings)


def _page_response(settings: Settings) -> ApiResponse[str]:
    page, etag = _page(base_of(settings.public_url))
    # asked about each time, since it names the files of one version
    headers = {"Cache-Control": "no-cache", "ETag": etag, "Content-Security-Policy": CONTENT_POLICY}
    headers |= {"X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin"}
    return ApiResponse(page, media_type=MediaType.HTML, headers=headers)


@get("/console/assets/{name:str}", role=PUBLIC, scope=Keys.NONE, include_in_schema=False)
async def asset(request: Request[Any, Any, Any], name: FromPath[str]) -> ApiResponse[bytes]:
    """While instances of two versions run, a page of one may ask the other for its files. What it starts with is then
    that of the other version, not to be stored, and can load the page again; all else is 404, so that modules of two
    versions never meet."""
    if (found := ASSETS.served(name)) is not None:
        return _asset_response(request, found, _FOR_A_YEAR)
    other = ASSETS.of_another_version(name)
    if other is None or other.name not in (ENTRY, STYLE):
        raise errors.NotFound
    return _asset_response(request, other, "no-store")


def _asset_response(request: Request[Any, Any, Any], found: Asset, caching: str) -> ApiResponse[bytes]:
    headers = {"Cache-Control": caching, "Vary": "Accept-Encoding", "Cross-Origin-Resource-Policy": "same-origin"}
    body = found.body
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"], body = "gzip", found.gzipped
    return ApiResponse(body, media_type=found.media_type, headers=headers)


ROUTES = [console, console_view, asset]
