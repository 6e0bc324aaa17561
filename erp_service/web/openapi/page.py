"""The page at /docs, which shows the document with no network."""

from pathlib import Path

import litestar_offline_docs
from litestar import MediaType, Router
from litestar.static_files import create_static_files_router

from erp_service.web.openapi.config import PUBLIC_OPT
from erp_service.web.routing import PUBLIC, get

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>erp_service API</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/static/swagger-ui.css"></head>
<body><div id="swagger"></div>
<script src="/docs/static/swagger-ui-bundle.js"></script>
<script>
window.ui = SwaggerUIBundle({url: "/schema/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null,
  persistAuthorization: false, tryItOutEnabled: true, docExpansion: "list"});
</script></body></html>"""


@get("/docs", role=PUBLIC, include_in_schema=False, media_type=MediaType.HTML)
async def page() -> str:
    """`validatorUrl` is null, or Swagger UI would load an image from its makers' server."""
    return _PAGE


ROUTES = [page]


def static_files() -> Router:
    """Swagger UI from a Python package, so that the page needs no network."""
    scripts = Path(litestar_offline_docs.__file__).parent / "static"
    return create_static_files_router(
        path="/docs/static", directories=[scripts], include_in_schema=False, opt=PUBLIC_OPT, name="docs-static"
    )
