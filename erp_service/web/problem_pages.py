"""The pages that the `type` of a problem points to: what went wrong, and what to do about it (RFC 9457, 3.1.1)."""

import html
import inspect
import re
from collections.abc import Iterable

from litestar import MediaType
from litestar.params import FromPath

from erp_service import errors
from erp_service.access.scopes import Keys
from erp_service.errors import Refused
from erp_service.web.responses import ApiResponse, html_page
from erp_service.web.routing import PUBLIC, get


def page(slug: str) -> str | None:
    """HTML that explains one type of problem, or None if there is no such type."""
    kind = next((k for k in errors.kinds() if k.slug == slug), None)
    if kind is None:
        return None
    paragraphs = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    body = "".join(f"<p>{_marked(' '.join(p.split()))}</p>" for p in paragraphs)
    return _html(kind.title, f"<p><code>{kind.status}</code> · <code>/problems/{kind.slug}</code></p>{body}")


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def index() -> str:
    kinds: Iterable[type[Refused]] = sorted(errors.kinds(), key=lambda k: (k.status, k.slug))
    rows = "".join(
        f'<li><code>{k.status}</code> <a href="/problems/{k.slug}">{html.escape(k.title)}</a></li>' for k in kinds
    )
    return _html("What can go wrong", f"<ul>{rows}</ul>")


def _html(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        "<style>body{font:16px/1.6 system-ui,sans-serif;max-width:40em;margin:3em auto;padding:0 1em}"
        "code{background:#eee;padding:.1em .3em;border-radius:3px}</style>"
        f"<h1>{html.escape(title)}</h1>{body}</html>"
    )


@get("/problems", role=PUBLIC, scope=Keys.NONE, include_in_schema=False, media_type=MediaType.HTML)
async def problem_index() -> ApiResponse[str]:
    return html_page(index())


@get("/problems/{slug:str}", role=PUBLIC, scope=Keys.NONE, include_in_schema=False, media_type=MediaType.HTML)
async def problem_page(slug: FromPath[str]) -> ApiResponse[str]:
    if (explanation := page(slug)) is None:
        raise errors.NotFound
    return html_page(explanation)


ROUTES = [problem_index, problem_page]
