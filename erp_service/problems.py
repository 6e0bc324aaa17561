"""Refusals as `application/problem+json` (RFC 9457), with every fault named."""

from typing import Any

import msgspec

from erp_service.errors import Fault, Refused
from erp_service.validation import MOST_FAULTS

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
