"""What a feature gives to the service, in one value: the app, the worker and the commands take it from there.

Parts are named as `module:attribute` and loaded when their kind is asked for. So a worker loads no web framework, a
command no queue, and `erp --help` nothing."""

import pkgutil
from collections.abc import Iterable
from typing import Literal, TypeVar, get_args

import msgspec

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope

T = TypeVar("T")

Kind = Literal[
    "routes",
    "tasks",
    "queues",
    "background",
    "loops",
    "housekeeping",
    "datasets",
    "proofs",
    "figures",
    "sealed",
    "event_data",
]


class EventTypes(msgspec.Struct, frozen=True):
    """Actions that a feature writes into the audit log, each `entity.verb` in the past tense, and who may hear of them:
    the least role, and the scope of a key."""

    role: Role
    scope: Scope
    names: tuple[str, ...]


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the service. Each name of a part is `module:attribute`; the attribute is a sequence.

    `models` are modules, whose tables belong to the schema. `event_types` are the actions that the feature writes into
    the audit log. `tags` group its routes in the OpenAPI document: name and description."""

    name: str
    models: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    routes: tuple[str, ...] = ()
    """Handlers of the web framework."""
    tasks: tuple[str, ...] = ()
    """Blueprints of the queue."""
    queues: tuple[str, ...] = ()
    """registry.queues.QueueShare: how its jobs share the slots of a worker."""
    background: tuple[str, ...] = ()
    """registry.background.BackgroundStep: what each worker does beside its jobs, about once a second."""
    loops: tuple[str, ...] = ()
    """registry.background.BackgroundLoop: the same for what must look more often."""
    housekeeping: tuple[str, ...] = ()
    """registry.housekeeping.Pruning or HousekeepingStep: what is done once a minute by one worker of the cluster."""
    datasets: tuple[str, ...] = ()
    """registry.datasets.Dataset: what can be exported."""
    proofs: tuple[str, ...] = ()
    """registry.proofs.Proof or SlowProof: what `erp verify` checks."""
    figures: tuple[str, ...] = ()
    """registry.figures.FigureReader: what /metrics says of the whole cluster."""
    sealed: tuple[str, ...] = ()
    """registry.sealed.SealedTable: append-only tables whose rows the trail covers."""
    event_types: tuple[EventTypes, ...] = ()
    event_data: tuple[str, ...] = ()
    """registry.event_data.EventData: what its events say beside ids and versions."""
    enums: tuple[str, ...] = ()
    """Literals that stand in the OpenAPI document once, under the name of the attribute."""


def load(features: Iterable[Feature], kind: Kind, *types: type[T]) -> list[T]:
    """The parts of one kind, in the order of the features. Raises TypeError for a part that is of none of the types."""
    parts: list[T] = []
    for feature in features:
        for name in getattr(feature, kind):
            for part in pkgutil.resolve_name(name):
                if not isinstance(part, types):
                    wanted = " or ".join(type_.__name__ for type_ in types)
                    raise TypeError(f"{name} of the feature {feature.name} holds {part!r}, which is no {wanted}")
                parts.append(part)
    return parts


def load_models(features: Iterable[Feature]) -> None:
    """Import every module of tables, so that the metadata of `db.base.Base` is complete."""
    for feature in features:
        for module in feature.models:
            pkgutil.resolve_name(module)


def load_enums(features: Iterable[Feature]) -> dict[str, tuple[str, ...]]:
    """The values of each enum, by its name in the OpenAPI document."""
    names = [name for feature in features for name in feature.enums]
    return {name.partition(":")[2]: get_args(pkgutil.resolve_name(name)) for name in names}
