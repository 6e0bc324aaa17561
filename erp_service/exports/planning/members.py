"""Which datasets the file of an export holds: one, or with `all` every one that the person may read."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats.base import Options
from erp_service.exports.formats.text_values import text_select_list
from erp_service.exports.planning.selection import Query, Spec, query
from erp_service.registry.datasets import Column, Dataset

ALL = "all"
ALL_ROLE = Role.VIEWER
ALL_DESCRIPTION = "Every dataset that you may read, as of one point in time, in one zip archive with a manifest."

Select = Callable[[Sequence[Column], Options], str]


class Member(NamedTuple):
    """One dataset of a file, and the query that reads it."""

    dataset: Dataset
    query: Query


def role_for(dataset: str) -> Role:
    """The least role that may export it. `all` is for everybody: it holds what the role may read."""
    return ALL_ROLE if dataset == ALL else DATASETS[dataset].role


def may_read(who: Principal, dataset: Dataset) -> bool:
    return who.role.includes(dataset.role) and who.has_scope(dataset.scope)


def datasets_for(who: Principal) -> list[str]:
    """What `all` means for somebody."""
    return [dataset.name for dataset in DATASETS.values() if may_read(who, dataset)]


def members(dataset: str, spec: Spec, select: Select = text_select_list) -> list[Member]:
    """What the file holds; `select` renders the values. Raises errors.Invalid that names every fault of the spec."""
    if dataset != ALL:
        return [Member(DATASETS[dataset], query(DATASETS[dataset], spec, select))]
    return [_unfiltered(DATASETS[name], spec, select) for name in spec.datasets or []]


def _unfiltered(dataset: Dataset, spec: Spec, select: Select) -> Member:
    """Deleted rows are included, since movements refer to them."""
    lifted = {known.name: True for known in dataset.filters if known.lifts}
    unfiltered = Spec(filter={**lifted}, csv=spec.csv, timezone=spec.timezone, plain_times=spec.plain_times)
    return Member(dataset, query(dataset, unfiltered, select))
