"""Jobs of the queue, and what was done with each of many."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from erp_service.db.pagination import Page

MOST_AT_ONCE = 500

OpenStatus = Literal["running", "waiting", "scheduled"]
Makes = Literal["export", "import"]

_REFERENCE = "[1-9][0-9]{0,14}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

Reference = Annotated[
    str, Meta(pattern=f"^({_REFERENCE})$", description="the number of a job, or the id of an export or an import")
]


class OpenJob(Struct, frozen=True):
    """A job that runs, or one that waits. `since` is when that began, for one that is scheduled when it may begin."""

    id: Annotated[int, Meta(description="its number in the queue")]
    queue: Annotated[str, Meta(description="its queue")]
    task: Annotated[str, Meta(description="what it does")]
    status: Annotated[OpenStatus, Meta(description="`scheduled`: it may not begin before `since`")]
    attempt: Annotated[int, Meta(description="counts from 1")]
    since: Annotated[datetime | None, Meta(description="since when it runs or waits, or when it may begin")]
    worker_id: Annotated[int | None, Meta(description="the worker that runs it")]
    cancel_asked: Annotated[bool, Meta(description="whether its worker was requested to stop it")]
    stalled: Annotated[
        Literal["gone", "silent"] | None, Meta(description="why it will be taken from its worker; null if it is not")
    ]
    makes: Annotated[Makes | None, Meta(description="null for a job that makes neither")]
    makes_id: Annotated[UUID | None, Meta(description="the id of that export or import")]
    dataset: Annotated[str | None, Meta(description="what is exported or imported")]
    owner: Annotated[str | None, Meta(description="the e-mail address of whose it is")]
    rows_done: Annotated[int | None, Meta(description="how far it is")]
    rows_total: Annotated[int | None, Meta(description="null if that is not known")]


class OpenJobPage(Page[OpenJob]):
    """Jobs, the first to be put into the queue first."""

    items: Annotated[list[OpenJob], Meta(description="jobs, the first to be put into the queue first")]


class FailedJob(Struct, frozen=True):
    """A job that failed for good, or an export that did while its job ended well."""

    job: Annotated[str, Meta(description="what to name it by: the id of the export, or its number in the queue")]
    number: Annotated[int | None, Meta(description="its number in the queue; null if it is no longer there")]
    queue: Annotated[str, Meta(description="its queue")]
    task: Annotated[str, Meta(description="what it did")]
    at: Annotated[datetime, Meta(description="when it failed")]
    attempts: Annotated[int, Meta(description="how often it was begun")]
    deaths: Annotated[int, Meta(description="how many workers died or fell silent while they ran it")]
    makes: Annotated[Makes | None, Meta(description="null for a job that makes neither")]
    dataset: Annotated[str | None, Meta(description="what was to be exported or imported")]
    owner: Annotated[str | None, Meta(description="the e-mail address of whose it is")]
    problem: Annotated[str | None, Meta(description="the type of the problem; null if the queue knows none")]
    reason: Annotated[str | None, Meta(description="the problem in words")]


class FailedJobPage(Page[FailedJob]):
    """Jobs that failed, newest first."""

    items: Annotated[list[FailedJob], Meta(description="jobs that failed, newest first")]


class ManyJobs(Struct, forbid_unknown_fields=True):
    """Which jobs. One that stands here twice counts once."""

    jobs: Annotated[list[Reference], Meta(min_length=1, max_length=MOST_AT_ONCE, description="which jobs")]


class Outcome(Struct):
    """What became of one job."""

    job: Annotated[str, Meta(description="as it was named in the request")]
    done: Annotated[bool, Meta(description="false: nothing was changed, and `problem` says why")]
    said: Annotated[str | None, Meta(description="what was done, in a sentence; null if nothing was")]
    export_id: Annotated[UUID | None, Meta(description="the new export that tries a failed one again")]
    problem: Annotated[
        dict[str, Any] | None,
        Meta(description="why nothing was done; null if it was", extra={"schema": "Problem"}),
    ]


class Outcomes(Struct):
    """The outcome of each job, in the order of the request."""

    items: Annotated[list[Outcome], Meta(description="each job once, in the order of the request")]
    done: Annotated[int, Meta(description="for how many of them it was done")]
