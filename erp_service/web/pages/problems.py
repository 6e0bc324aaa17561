"""The pages that the `type` of a problem points to: what went wrong, and what to do about it (RFC 9457, 3.1.1)."""

import html
import inspect
import re
from http import HTTPStatus
from itertools import groupby
from typing import Annotated

from litestar import MediaType
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from erp_service import errors
from erp_service.access.scopes import Keys
from erp_service.errors import Refused
from erp_service.settings import Settings
from erp_service.web.pages.frame import LONGEST_SEARCH, Page, base_of, found, framed
from erp_service.web.responses import ApiResponse, html_page
from erp_service.web.routing import PUBLIC, get

_HERE, _SEARCH = "/problems", "Find a problem"


def page(slug: str, base: str = "") -> str | None:
    """HTML that explains one type of problem, or None if there is no such type."""
    kind = next((k for k in errors.kinds() if k.slug == slug), None)
    if kind is None:
        return None
    body = (
        f'<article class="prose"><h1>{html.escape(kind.title)}</h1>'
        f'<p class="soft"><code class="status">{kind.status}</code> {_phrase(kind.status)} ·'
        f" <code>/problems/{kind.slug}</code></p>"
        + "".join(f"<p>{_marked(paragraph)}</p>" for paragraph in _paragraphs(kind))
        + '<p><a href="{base}/problems">All problems</a></p></article>'
    )
    return framed(Page(title=kind.title, here=_HERE, search=_SEARCH, body=body), base=base)


def index(words: str = "", base: str = "") -> str:
    """All problems, of which those are seen that have each of these words in title, slug, status or explanation."""
    kinds = sorted(errors.kinds(), key=lambda k: (k.status, k.slug))
    chosen = {kind for kind in kinds if found(words, *_texts(kind))}
    sections = ""
    for status, group in groupby(kinds, key=lambda k: k.status):
        same = list(group)
        rows = "".join(_row(kind, is_seen=kind in chosen) for kind in same)
        title = f'<h2><code class="status">{status}</code> {_phrase(status)}</h2>'
        sections += f"<section{_hidden(chosen.isdisjoint(same))}>{title}<ul>{rows}</ul></section>"
    body = (
        f'<h1>What can go wrong</h1><p class="soft" id="count" role="status">{_counted(len(chosen))}</p>'
        f'<div id="list" class="problems">{sections}</div>'
        f'<p id="none"{_hidden(bool(chosen))}>No problem has these words.</p>'
    )
    shown = Page(title="What can go wrong", here=_HERE, search=_SEARCH, body=body, files=("search.js",))
    return framed(shown, base=base, words=words)


def _counted(number: int) -> str:
    return f"{number} problem{'' if number == 1 else 's'}"


def _hidden(is_hidden: bool) -> str:
    return " hidden" if is_hidden else ""


def _row(kind: type[Refused], *, is_seen: bool) -> str:
    # the search finds the words of the whole explanation, of which the list shows the beginning
    first, *more = _paragraphs(kind)
    unseen = html.escape(" ".join([str(kind.status), HTTPStatus(kind.status).phrase, *more]).replace("`", ""))
    return (
        f'<li data-more="{unseen}"{_hidden(not is_seen)}>'
        f'<a href="{{base}}/problems/{kind.slug}">{html.escape(kind.title)}</a> <code>{kind.slug}</code>'
        f"<p>{_marked(first)}</p></li>"
    )


def _texts(kind: type[Refused]) -> tuple[str, ...]:
    explanation = " ".join(_paragraphs(kind)).replace("`", "")
    return (str(kind.status), HTTPStatus(kind.status).phrase, kind.title, kind.slug, explanation)


def _paragraphs(kind: type[Refused]) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(kind.__doc__ or "").split("\n\n")]


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _phrase(status: int) -> str:
    return html.escape(HTTPStatus(status).phrase)


@get(_HERE, role=PUBLIC, scope=Keys.NONE, any_query=True, include_in_schema=False, media_type=MediaType.HTML)
async def problem_index(
    settings: NamedDependency[Settings], q: Annotated[str, QueryParameter(max_length=LONGEST_SEARCH)] = ""
) -> ApiResponse[str]:
    return html_page(index(q, base_of(settings.public_url)))


@get(
    f"{_HERE}/{{slug:str}}",
    role=PUBLIC,
    scope=Keys.NONE,
    any_query=True,
    include_in_schema=False,
    media_type=MediaType.HTML,
)
async def problem_page(settings: NamedDependency[Settings], slug: FromPath[str]) -> ApiResponse[str]:
    if (explanation := page(slug, base_of(settings.public_url))) is None:
        raise errors.NotFound
    return html_page(explanation)


ROUTES = [problem_index, problem_page]
