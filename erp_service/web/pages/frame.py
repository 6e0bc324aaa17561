"""What stands around the pages that the service writes itself, /docs and /problems: the head with the way to the others
and a search, and the foot. Each works without JavaScript, and loads nothing from elsewhere."""

import hashlib
import html
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

STATIC = "/docs/static"
ASSETS = Path(__file__).parent / "assets"
LONGEST_SEARCH = 200

_LINKS = {"/console": "Console", "/docs": "API documentation", "/problems": "What can go wrong"}

_FRAME = """<!doctype html>
<html lang="en" data-base="{base}">
<head>
<meta charset="utf-8">
<title>{title} · erp_service</title>
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
{files}
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header>
<a class="brand" href="{base}/console">erp_service</a>
<nav aria-label="Main"><ul>{links}</ul></nav>
<form role="search" action="{base}{here}"><label class="hidden" for="q">{search}</label>
<input id="q" name="q" type="search" value="{words}" placeholder="{search}" autocomplete="off" maxlength="200"></form>
</header>
<main id="main" tabindex="-1">
{body}
</main>
<footer><a href="{base}/schema/openapi.json">OpenAPI document</a> · {feet}</footer>
</body>
</html>
"""


class Page(Struct, frozen=True, kw_only=True):
    """`here` is the path whose link in the head is the present one, and to which a search goes; `search` is its label.
    `files` are names below /docs/static, beside those that each page has."""

    title: str
    here: str
    search: str
    body: str
    files: tuple[str, ...] = ()


def base_of(public_url: str | None) -> str:
    """The path before all others, as browsers see it: that of ERP_PUBLIC_URL, else none."""
    return urlsplit(public_url or "").path.rstrip("/")


def framed(page: Page, *, base: str = "", words: str = "") -> str:
    """The whole page. `body` is HTML, in which links of the service begin with `{base}`; all else is text."""
    base = html.escape(base)
    links = "".join(_link(base, path, name, page.here) for path, name in _LINKS.items())
    return _FRAME.format(
        base=base,
        title=html.escape(page.title),
        files="\n".join(_file(base, name) for name in ("page.css", "theme.js", *page.files)),
        links=links,
        here=page.here,
        search=html.escape(page.search),
        words=html.escape(words),
        body=page.body.replace("{base}", base),
        feet=" · ".join(f'<a href="{base}{path}">{name}</a>' for path, name in _LINKS.items() if path != page.here),
    )


def found(words: str, *texts: str) -> bool:
    """Whether each word is in one of the texts, in any case; as assets/search.js has it."""
    text = " ".join(texts).casefold()
    return all(word in text for word in words.casefold().split())


def _link(base: str, path: str, name: str, here: str) -> str:
    current = ' aria-current="page"' if path == here else ""
    return f'<li><a href="{base}{path}"{current}>{name}</a></li>'


def _file(base: str, name: str) -> str:
    address = f"{base}{STATIC}/{name}{_version(name)}"
    if name.endswith(".css"):
        return f'<link rel="stylesheet" href="{address}">'
    # the theme before anything is seen; the rest when all is there
    defer = "" if name == "theme.js" else " defer"
    return f'<script src="{address}"{defer}></script>'


@cache
def _version(name: str) -> str:
    """A browser may keep a file; that of another version has another address."""
    path = ASSETS / name
    return f"?{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}" if path.is_file() else ""
