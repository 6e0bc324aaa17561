"""What the events of a feature say beside ids, versions and the names of changed fields."""

from msgspec import Struct


class EventData(Struct, frozen=True):
    """`sql` is a subselect of one json object, or of none, for the audit entry `a`. What it reads must never change:
    an event is the same whenever it is read. It holds no `:name` and no `$1`."""

    types: tuple[str, ...]
    sql: str
