"""The page at /docs, which shows the document with no network: Swagger UI in our frame, and without JavaScript a plain
list of all endpoints."""

import html
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import litestar_offline_docs
from litestar import Litestar, MediaType, Request, Router
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.static_files import create_static_files_router

from erp_service.access.scopes import Keys
from erp_service.settings import Settings
from erp_service.web.pages.frame import ASSETS, LONGEST_SEARCH, STATIC, Page, base_of, found, framed
from erp_service.web.responses import ApiResponse, html_page
from erp_service.web.routing import PUBLIC, get

_BODY = """<h1 class="hidden">API documentation</h1>
<p class="soft" id="count" role="status"></p>
<p id="none" hidden>No endpoint has these words.</p>
<div id="swagger"></div>
<noscript><p>With JavaScript, this page also shows schemas and sends requests.</p>{endpoints}</noscript>"""


def page(app: Litestar, words: str = "", base: str = "") -> str:
    """`words` are what the list of endpoints is searched for; without JavaScript, since the script does it too."""
    body = _BODY.replace("{endpoints}", _endpoints(app, words))
    files = ("swagger-ui.css", "docs.css", "swagger-ui-bundle.js", "docs.js")
    return framed(
        Page(title="API documentation", here="/docs", search="Find an endpoint", body=body, files=files),
        base=base,
        words=words,
    )


def _endpoints(app: Litestar, words: str) -> str:
    by_tag: dict[str, list[str]] = defaultdict(list)
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler) and handler.resolve_include_in_schema():
                (tag, *_), summary = sorted(handler.tags or ["other"]), handler.summary or ""
                for method in sorted(handler.http_methods - {"OPTIONS"}):
                    if found(words, tag, method, route.path_format, summary, handler.description or ""):
                        name = html.escape(f"{method} {route.path_format}")
                        by_tag[tag].append(f"<li><code>{name}</code> {html.escape(summary)}</li>")
    return "".join(f"<h2>{html.escape(tag)}</h2><ul>{''.join(rows)}</ul>" for tag, rows in by_tag.items())


@get("/docs", role=PUBLIC, scope=Keys.NONE, any_query=True, include_in_schema=False, media_type=MediaType.HTML)
async def docs(
    request: Request[Any, Any, Any],
    settings: NamedDependency[Settings],
    q: Annotated[str, QueryParameter(max_length=LONGEST_SEARCH)] = "",
) -> ApiResponse[str]:
    return html_page(page(request.app, q, base_of(settings.public_url)))


ROUTES = [docs]


def static_files() -> Router:
    """What the pages load: our own files, and Swagger UI from a Python package, so that no page needs the network."""
    swagger = Path(litestar_offline_docs.__file__).parent / "static"
    # with the hash of a file as its query
    opt = {"role": PUBLIC, "scope": Keys.NONE, "any_query": True}
    return create_static_files_router(
        path=STATIC, directories=[ASSETS, swagger], include_in_schema=False, opt=opt, name="docs-static"
    )
