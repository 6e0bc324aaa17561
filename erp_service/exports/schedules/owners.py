"""The principal of a schedule's run: its owner, with no more rights than whoever makes it run.

An ADMIN who writes or runs the schedule of a SUPER_ADMIN must not export what only a SUPER_ADMIN may."""

from uuid import UUID

from erp_service.access.principals import SCHEDULE, Actor, Principal
from erp_service.access.roles import Role
from erp_service.auth import queries as auth_queries
from erp_service.db.sessions import Session
from erp_service.exports.problems import ExportForbidden
from erp_service.exports.schedules.schemas import ScheduleOut


async def principal_at_its_time(
    db: Session, schedule_id: UUID, owner: int, *, changed_by: int | None, most_role: str | None
) -> Principal:
    """The owner, for a run at the schedule's own time, with no more rights than its last writer had; that one acts.

    Raises ExportForbidden."""
    actor = Actor(owner if changed_by is None else changed_by, SCHEDULE)
    role = (await _role_of_owner(db, owner)).at_most(None if most_role is None else Role(most_role))
    return Principal(owner, role, f"schedule {schedule_id}", actor=actor)


async def as_owner(db: Session, present: ScheduleOut, who: Principal, *, most: Role) -> Principal:
    """The owner, on whose behalf `who` acts, with the role `most` at most, and the scopes of the key that `who` came
    with. Raises ExportForbidden."""
    role = (await _role_of_owner(db, present.owner)).at_most(most)
    return Principal(present.owner, role, who.request_id, who.address, who.actor or Actor(who.user_id), who.key)


async def _role_of_owner(db: Session, user_id: int) -> Role:
    """Their present one. Raises ExportForbidden if they are no longer active."""
    authority = await auth_queries.authority(db, user_id)
    if authority is None or not authority.active:
        raise ExportForbidden("Its owner is no longer active.")
    return authority.role
