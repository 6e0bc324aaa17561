"""The one page of the console. It names the files that it needs by their hashes, and holds no script or style."""

import html

from erp_service.console.assets import Assets

ENTRY = "boot.js"
"""What the page runs. It loads everything else, so that it can say so if that fails."""

STYLE = "console.css"
APP = "app.js"

# no 'unsafe-inline', no other host: what is not named here is not loaded
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en" data-base="{base}">
<head>
<meta charset="utf-8">
<title>erp_service</title>
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="{icon}">
<link rel="stylesheet" href="{style}">
{preloads}
<script type="module" src="{entry}"></script>
</head>
<body>
<div id="app"></div>
<noscript>This page needs JavaScript.</noscript>
</body>
</html>
"""


def render(assets: Assets, base: str) -> str:
    def address(name: str) -> str:
        return html.escape(f"{base}/console/assets/{assets.named(name).served_as}")

    # fetched beside the page: else each would wait for the one that imports it
    modules = [asset.name for asset in assets.closure(APP)]
    preloads = "\n".join(f'<link rel="modulepreload" href="{address(name)}">' for name in modules)
    return _PAGE.format(
        base=html.escape(base), icon=address("icon.svg"), style=address(STYLE), entry=address(ENTRY), preloads=preloads
    )
