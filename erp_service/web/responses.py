"""The response class of routes, pages, ETags, and what `If-Match` and `If-None-Match` mean."""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import urlencode

from litestar import MediaType, Request
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.response import Response
from litestar.serialization import default_serializer
from litestar.types import Receive, Scope, Send
from litestar.utils.helpers import get_enum_string_value

from erp_service import errors
from erp_service.db.pagination import Page
from erp_service.web.routing import T

Background: TypeAlias = BackgroundTask | BackgroundTasks

_HEADERS_OF_304 = ("Preference-Applied", "Vary", "Retry-After", "Cache-Control")
_WITHOUT_BODY = frozenset({204, 304})


class Answer:
    """A response as it is sent. The framework's own takes as long to build as the rest of a short answer."""

    __slots__ = ("_background", "body", "headers", "status_code")

    def __init__(
        self, status_code: int, headers: list[tuple[bytes, bytes]], body: bytes, background: Background | None = None
    ) -> None:
        self.status_code, self.headers, self.body = status_code, headers, body
        self._background = background

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})
        if self._background is not None:
            await self._background()


class ApiResponse(Response[T]):
    """The only response class of routes. It keeps the answer for the Idempotency-Key, answers 304 for an ETag that the
    client has, links the next page, and lets nobody store what does not say otherwise."""

    def to_asgi_response(  # type: ignore[override]
        self,
        *,
        request: Request[Any, Any, Any],
        status_code: int | None = None,
        media_type: MediaType | str | None = None,
        **_: Any,
    ) -> Answer:
        scope, headers = request.scope, self.headers
        if isinstance(self.content, Page) and self.content.next_cursor is not None:
            others = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
            query = urlencode([*others, ("cursor", self.content.next_cursor)])
            headers["Link"] = f'<{scope["path"]}?{query}>; rel="next"'
        headers.setdefault("Cache-Control", "no-store")
        status = self.status_code or status_code or 200
        etag = headers.get("ETag")
        if etag and scope["method"] == "GET" and etag_matches(request.headers.get("If-None-Match"), etag):
            kept = {"ETag": etag} | {name: headers[name] for name in _HEADERS_OF_304 if name in headers}
            answer = Answer(304, _encoded(kept), b"")
        elif status in _WITHOUT_BODY:
            answer = Answer(status, _encoded(headers), b"", self.background)
        else:
            media_type = get_enum_string_value(self.media_type or media_type or MediaType.JSON)
            body = self.render(self.content, media_type, default_serializer)
            headers.setdefault("Content-Type", _content_type(media_type))
            headers.setdefault("Content-Length", str(len(body)))
            answer = Answer(status, _encoded(headers), body, self.background)
        scope["state"]["answer"] = answer
        return answer


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


@cache
def _content_type(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def rendered_answer(request: Request[Any, Any, Any]) -> Answer:
    """What ApiResponse rendered for this request: its status, body and headers as they will be sent.

    Raises KeyError if the handler answered with another class: a request with an Idempotency-Key then fails, and its
    transaction is rolled back."""
    return request.scope["state"]["answer"]  # type: ignore[no-any-return]


_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def html_page(page: str) -> ApiResponse[str]:
    """A page that loads files of ours and nothing else, holds no script and no style, and stands in no frame."""
    headers = {"Content-Security-Policy": _CONTENT_POLICY, "X-Frame-Options": "DENY"}
    return ApiResponse(page, media_type=MediaType.HTML, headers=headers)


def tagged(content: T, version: int | str, **headers: str) -> ApiResponse[T]:
    """One resource with the `ETag` of its version."""
    return ApiResponse(content, headers={"ETag": etag(version), **headers})


def created(content: T, location: str, version: int | str | None = None) -> ApiResponse[T]:
    headers = {"Location": location} | ({"ETag": etag(version)} if version is not None else {})
    return ApiResponse(content, status_code=201, headers=headers)


def etag(version: int | str) -> str:
    return f'"{version}"'


def require_match(if_match: str | None, version: int | str) -> None:
    """Raises errors.Stale unless `If-Match` is absent, `*`, or names this version."""
    if if_match is not None and not etag_matches(if_match, etag(version)):
        raise errors.Stale("It was changed after you read it.", headers={"ETag": etag(version)})


def etag_matches(header: str | None, etag: str) -> bool:
    """Whether `If-Match` or `If-None-Match` names this tag, or is `*`."""
    if header is None:
        return False
    return header.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in header.split(","))
