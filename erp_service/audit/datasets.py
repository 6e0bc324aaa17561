"""The audit log, as it can be exported."""

from erp_service.access.roles import Role
from erp_service.registry.datasets import Column, Dataset, Filter, a_time, an_id, some_text

AUDIT_LOG = Dataset(
    name="audit_log",
    description="Who did what, when, from where, with what before and after.",
    role=Role.ADMIN,
    source="audit_log a left join users u on u.id = a.user_id",
    key=("a.id",),
    sorts={"id": "a.id"},
    columns=(
        Column("id", "integer", "a.id", "the entry's id"),
        Column("at", "timestamp", "a.at", "when it was done"),
        Column("user_id", "integer", "a.user_id", "who did it; empty for the service itself"),
        Column("user", "text", "u.email", "their e-mail address"),
        Column("action", "text", "a.action", "what was done"),
        Column("entity", "text", "a.entity", "to what kind of thing"),
        Column("entity_id", "text", "a.entity_id", "to which"),
        Column("before", "json", "a.before", "what it was before"),
        Column("after", "json", "a.after", "what it was after"),
        Column("reason", "text", "a.reason", "why"),
        Column("request_id", "text", "a.request_id", "in which request"),
        Column("address", "text", "a.address", "from where"),
    ),
    filters=(
        Filter("user_id", an_id, "a.user_id = {}", "by this user"),
        Filter("action", some_text, "a.action = {}", "this action"),
        Filter("entity", some_text, "a.entity = {}", "to this kind of thing"),
        Filter("entity_id", some_text, "a.entity_id = {}", "to this one"),
        Filter("request_id", some_text, "a.request_id = {}", "in this request"),
        Filter("from", a_time, "a.at >= {}", "at this time or later"),
        Filter("to", a_time, "a.at < {}", "before this time"),
    ),
)

DATASETS = (AUDIT_LOG,)
