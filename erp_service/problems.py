"""Refusals as `application/problem+json` (RFC 9457), with every fault named."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from erp_service.errors import Fault, Refused
from erp_service.validation import MOST_FAULTS

MEDIA_TYPE = "application/problem+json"


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457, with `request_id`, `errors`, and further members that some types document."""

    type: Annotated[str, Meta(description="which problem it is; its address explains it")]
    title: Annotated[str, Meta(description="the problem in a few words")]
    status: Annotated[int, Meta(description="the status of the answer")]
    detail: Annotated[str | None, Meta(description="what happened this time")] = None
    request_id: Annotated[str | None, Meta(description="the `X-Request-Id` of the request")] = None
    errors: Annotated[list[Fault], Meta(description="every bad field")] = []


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
