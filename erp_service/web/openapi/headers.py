"""The headers that requests and answers can have, each described once."""

from typing import Any

from erp_service.web.idempotency_models import KEPT_HOURS

Described = dict[str, Any]


def _text(description: str, **schema: Any) -> Described:
    return {"description": description, "schema": {"type": "string", **schema}}


ANSWERED: dict[str, Described] = {
    "Accept-Patch": _text("what a body of PATCH may be, RFC 5789"),
    "Accept-Ranges": _text("`bytes`: parts of the file can be asked for"),
    "Cache-Control": _text("who may keep the answer, RFC 9111"),
    "Content-Disposition": _text("the name of the file, RFC 6266"),
    "Content-Length": {"description": "the size in bytes", "schema": {"type": "integer"}},
    "Content-Range": _text("which bytes of the file these are, and how many it has, RFC 9110"),
    "ETag": _text("the version of the resource, for `If-Match` and `If-None-Match`"),
    "Erp-Data-As-Of": _text(
        "only while no primary database can be reached: what was committed before this time is in the answer, what"
        " came later may be missing",
        format="date-time",
    ),
    "Idempotency-Replayed": _text("`true` if this is the recorded answer to an earlier request with the same key"),
    "Link": _text('the address of the next page, with `rel="next"`; missing on the last page'),
    "Location": _text("the address of the resource"),
    "Preference-Applied": _text("which preference of `Prefer` was followed, RFC 7240"),
    "RateLimit": _text(
        "how you stand with each limit that this request was counted by, such as `user` or `key`: `r` uses are left,"
        " and it starts again in `t` seconds; missing while requests cannot be counted"
    ),
    "RateLimit-Policy": _text("these limits: `q` uses in `w` seconds"),
    "Repr-Digest": _text("the SHA-256 of the whole file, also beside a part of it, RFC 9530"),
    "Retry-After": {
        "description": "the number of seconds after which to ask again",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Vary": _text("the headers of the request that the answer depends on"),
    "WWW-Authenticate": _text("how to sign in, RFC 6750"),
    "X-Request-Id": _text("the id of this request, which the log and the audit log have too"),
}

TAKEN: dict[str, Described] = {
    "X-Request-Id": _text(
        "The id of this request: letters, digits and `._-`. It comes back in the answer, and is in the log and in the"
        " audit log. Another id is made if it is missing or has other characters."
    ),
    "Idempotency-Key": _text(
        "Makes it safe to send this request again: with the same key and the same request, the first answer comes again"
        f" and nothing is done twice. Kept for {KEPT_HOURS} hours. Make a new key, such as a UUID, for each request.",
        pattern=r"^[\x21-\x7e]{1,255}$",
        minLength=1,
        maxLength=255,
    ),
    "If-None-Match": _text("The `ETag` that you have: the answer is 304 if it is still that one."),
}


def component_name(header: str) -> str:
    return header.replace("-", "")
