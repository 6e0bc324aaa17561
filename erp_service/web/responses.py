"""The response class of routes, pages, ETags, and what `If-Match` and `If-None-Match` mean."""

import base64
import hashlib
import re
from functools import cache
from typing import Any
from urllib.parse import urlencode

from litestar import MediaType, Request
from litestar.response import Response
from litestar.response.base import ASGIResponse

from erp_service import errors
from erp_service.db.pagination import Page
from erp_service.web.routing import T

_HEADERS_OF_304 = ("Preference-Applied", "Vary", "Retry-After", "Cache-Control")
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class ApiResponse(Response[T]):
    """The only response class of routes. It keeps the answer for the Idempotency-Key, answers 304 for an ETag that the
    client has, links the next page, and lets nobody store what does not say otherwise."""

    def to_asgi_response(self, *, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:  # type: ignore[override]
        if isinstance(self.content, Page) and self.content.next_cursor is not None:
            others = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
            query = urlencode([*others, ("cursor", self.content.next_cursor)])
            self.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
        self.headers.setdefault("Cache-Control", "no-store")
        answer = super().to_asgi_response(request=request, **options)
        etag = self.headers.get("ETag")
        if request.method == "GET" and etag and etag_matches(request.headers.get("If-None-Match"), etag):
            headers = {name: self.headers[name] for name in _HEADERS_OF_304 if name in self.headers}
            answer = ASGIResponse(status_code=304, headers={"ETag": etag, **headers})
        request.state.answer = answer
        return answer


def rendered_answer(request: Request[Any, Any, Any]) -> ASGIResponse:
    """What ApiResponse rendered for this request: its status, body and headers as they will be sent.

    With `ApiResponse` the one user of the framework's untyped `request.state`. Raises AttributeError if the handler
    answered with another class: a request with an Idempotency-Key then fails, and its transaction is rolled back."""
    return request.state.answer  # type: ignore[no-any-return]


def html_page(page: str, *, style_attributes: bool = False) -> ApiResponse[str]:
    """A page that may load only what it was written with: files of ours, and the scripts and styles inside it. No other
    page may show it in a frame. `style_attributes` for a library that writes styles into its elements."""
    headers = {"Content-Security-Policy": _content_policy(page, style_attributes), "X-Frame-Options": "DENY"}
    return ApiResponse(page, media_type=MediaType.HTML, headers=headers)


@cache
def _content_policy(page: str, style_attributes: bool) -> str:
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f" 'sha256-{digest}'")
    # a hash would switch off 'unsafe-inline' (CSP 3, 6.7.3.2)
    styles = " 'unsafe-inline'" if style_attributes else "".join(hashes["style"])
    return (
        f"default-src 'none'; script-src 'self'{''.join(hashes['script'])}; style-src 'self'{styles};"
        " img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    )


def tagged(content: T, version: int, **headers: str) -> ApiResponse[T]:
    """One resource with the `ETag` of its version."""
    return ApiResponse(content, headers={"ETag": etag(version), **headers})


def created(content: T, location: str, version: int | None = None) -> ApiResponse[T]:
    headers = {"Location": location} | ({"ETag": etag(version)} if version is not None else {})
    return ApiResponse(content, status_code=201, headers=headers)


def etag(version: int) -> str:
    return f'"{version}"'


def require_match(if_match: str | None, version: int) -> None:
    """Raises errors.Stale unless `If-Match` is absent, `*`, or names this version."""
    if if_match is not None and not etag_matches(if_match, etag(version)):
        raise errors.Stale("It was changed after you read it.", headers={"ETag": etag(version)})


def etag_matches(header: str | None, etag: str) -> bool:
    """Whether `If-Match` or `If-None-Match` names this tag, or is `*`."""
    if header is None:
        return False
    return header.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in header.split(","))
