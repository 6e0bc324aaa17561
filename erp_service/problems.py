"""How errors become `application/problem+json` (RFC 9457) with every fault named, and the pages that explain them."""

import html
import inspect
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from erp_service import errors
from erp_service.bodies import MOST_FAULTS
from erp_service.errors import Fault, Refused

MEDIA_TYPE = "application/problem+json"


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457, with `request_id`, `errors`, and further members that some types document."""

    type: str
    title: str
    status: int
    detail: str | None = None
    request_id: str | None = None
    errors: list[Fault] = []


def as_problem(refusal: Refused, request_id: str | None) -> dict[str, Any]:
    problem = msgspec.to_builtins(
        Problem(
            type=f"/problems/{refusal.slug}",
            title=refusal.title,
            status=refusal.status,
            detail=refusal.detail,
            request_id=request_id,
            errors=list(refusal.faults[:MOST_FAULTS]),
        )
    )
    return {**problem, **refusal.members}


# The pages that `type` points to.


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
    known: Iterable[type[Refused]] = sorted(errors.kinds(), key=lambda k: (k.status, k.slug))
    rows = "".join(
        f'<li><code>{k.status}</code> <a href="/problems/{k.slug}">{html.escape(k.title)}</a></li>' for k in known
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
