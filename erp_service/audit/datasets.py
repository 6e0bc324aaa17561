"""The dataset of the audit log, for exports."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.datasets import Column, Dataset, Filter, a_time, an_id, some_text

AUDIT_LOG = Dataset(
    name="audit_log",
    description="Who did what, when and from where, with the values before and after.",
    role=Role.ADMIN,
    scope=Scope.AUDIT_READ,
    source="audit_log a left join users u on u.id = a.user_id left join users o on o.id = a.on_behalf_of"
    " left join api_keys k on k.id = a.api_key_id",
    key=("a.id",),
    sorts={"id": "a.id"},
    columns=(
        Column("id", "integer", "a.id", "the entry's id"),
        Column("at", "timestamp", "a.at", "when it was done"),
        Column("user_id", "integer", "a.user_id", "who did it; empty for the service itself"),
        Column("user", "text", "u.email", "their e-mail address"),
        Column("action", "text", "a.action", "what was done"),
        Column("entity", "text", "a.entity", "on what kind of object"),
        Column("entity_id", "text", "a.entity_id", "on which one: its id"),
        Column("before", "json", "a.before", "its values before"),
        Column("after", "json", "a.after", "its values after"),
        Column("reason", "text", "a.reason", "why"),
        Column("request_id", "text", "a.request_id", "in which request"),
        Column("address", "text", "a.address", "from which network address"),
        Column("on_behalf_of", "integer", "a.on_behalf_of", "the user for whom somebody else did it"),
        Column("on_behalf_of_user", "text", "o.email", "that user's e-mail address"),
        Column("actor", "text", "a.actor", "who did it if no user did, or by which way a user did"),
        Column("api_key_id", "integer", "a.api_key_id", "by which API key of the user"),
        Column("api_key", "text", "k.name", "the name of that key"),
    ),
    filters=(
        Filter("user_id", an_id, "a.user_id = {}", "by this user"),
        Filter("on_behalf_of", an_id, "a.on_behalf_of = {}", "by somebody else for this user"),
        Filter("actor", some_text, "a.actor = {}", "by this actor"),
        Filter("api_key_id", an_id, "a.api_key_id = {}", "by this API key"),
        Filter("action", some_text, "a.action = {}", "this action"),
        Filter("entity", some_text, "a.entity = {}", "on this kind of object"),
        Filter("entity_id", some_text, "a.entity_id = {}", "on the object with this id"),
        Filter("request_id", some_text, "a.request_id = {}", "in this request"),
        Filter("from", a_time, "a.at >= {}", "at this time or later"),
        Filter("to", a_time, "a.at < {}", "before this time"),
    ),
)

DATASETS = (AUDIT_LOG,)
