"""What clients send and get about schedules."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from erp_service.access.roles import Role
from erp_service.db.pagination import Page
from erp_service.exports.models import Status
from erp_service.exports.schemas import ExportRequest

_SPEC = {"dataset": "stock_levels", "format": "csv"}

_Cron = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description="minute, hour, day of month (`L`: the last), month, day of week: five fields of cron; at most"
        " every 5 minutes. Also `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`, kept as the five fields that"
        " they stand for. If day of month and day of week are both restricted, a day that matches one of them is"
        " enough; if one of the two begins with a star, with or without a step, a day must match both (Debian's cron)",
        examples=["0 6 * * mon-fri", "30 23 L * *"],
    ),
]
_Zone = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="the IANA time zone that `cron` is in. A fixed time that its clock skips runs right after the"
        " change, and one that it shows twice runs the first time only. With a star or a step in minute or hour the"
        " schedule is an interval: it runs whenever the clock shows one of its times, so one of every five minutes does"
        " not pause for an hour that the clock shows again",
        examples=["Europe/Berlin"],
    ),
]


class ScheduleBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """When to export what. `spec` is the body of `POST /api/v1/exports/jobs`."""

    cron: _Cron
    timezone: _Zone = "UTC"
    spec: Annotated[ExportRequest, Meta(description="the body of `POST /api/v1/exports/jobs`", examples=[_SPEC])]
    is_active: Annotated[bool, Meta(description="false: the schedule stays and does not run")] = True


class DayRule(Struct):
    """Which days count if day of month and day of week are both restricted."""

    match: Annotated[Literal["both", "either"], Meta(description="what a day must match to be a day of runs")]
    description: Annotated[
        str,
        Meta(
            description="the same in words",
            examples=["runs on days that match one of the two: day of month 13, or day of week fri"],
        ),
    ]


class LastJob(Struct):
    """The present state of the export that the last run submitted, or joined."""

    id: Annotated[UUID, Meta(description="the id of the export")]
    status: Annotated[Status, Meta(description="its state now")]


class ScheduleOut(Struct):
    """A schedule. `last_error` is a problem (RFC 9457) if the last run was refused, and null otherwise."""

    id: Annotated[UUID, Meta(description="the id")]
    owner: Annotated[int, Meta(description="the id of the user as whom it runs")]
    cron: Annotated[str, Meta(description="when it runs")]
    day_rule: Annotated[DayRule | None, Meta(description="null unless `cron` restricts both fields of days")]
    timezone: Annotated[str, Meta(description="the IANA time zone of `cron`")]
    spec: Annotated[
        dict[str, Any],
        Meta(description="as it was sent, with defaults", examples=[_SPEC], extra={"schema": "ExportRequest"}),
    ]
    is_active: Annotated[bool, Meta(description="false: it does not run")]
    next_run_at: Annotated[datetime | None, Meta(description="null while it is not active")]
    last_run_at: Annotated[datetime | None, Meta(description="when it last ran, or was refused")]
    last_job: Annotated[LastJob | None, Meta(description="the export of the last run; null before the first")]
    last_error: Annotated[
        dict[str, Any] | None,
        Meta(description="why the last run was refused; null if it was not", extra={"schema": "Problem"}),
    ]
    created_at: Annotated[datetime, Meta(description="when it was created")]
    updated_at: Annotated[datetime, Meta(description="when it was last changed")]
    changed_by: Annotated[int, Meta(description="the id of the user who last changed it")]
    most_role: Annotated[
        Role | None,
        Meta(description="if that was not the owner: the role with which it runs at most, that of `changed_by`"),
    ]


class SchedulePage(Page[ScheduleOut]):
    """Schedules, newest first."""

    items: Annotated[list[ScheduleOut], Meta(description="schedules, newest first")]
