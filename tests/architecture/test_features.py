"""What a feature says of itself is true: its parts are there, of the right type and in its own package. And nothing
that a feature has is missing from its `feature.py`."""

import ast
import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from litestar.di import Dependency
from litestar.handlers import HTTPRouteHandler
from procrastinate import Blueprint
from sqlalchemy import Table

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.base import Base
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.features import FEATURES, NAMES
from erp_service.registry.background import BackgroundLoop, BackgroundStep
from erp_service.registry.datasets import Dataset
from erp_service.registry.event_data import EventData
from erp_service.registry.feature import Feature, Kind, load
from erp_service.registry.figures import FigureReader
from erp_service.registry.housekeeping import HousekeepingStep, Pruning
from erp_service.registry.proofs import Proof, SlowProof
from erp_service.registry.queues import QueueShare
from erp_service.registry.sealed import SealedTable
from erp_service.registry.services import ServiceSet
from erp_service.reports.routes.reader import ReportReader
from erp_service.services import Services, build_services
from erp_service.settings import Settings
from erp_service.worker_services import build_worker_services
from tests.architecture.assembled import HANDLERS, IDS, SETTINGS
from tests.architecture.audit_actions import written_actions

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "erp_service"
MODULES = sorted(PACKAGE.rglob("*.py"))

TYPES: dict[Kind, tuple[type, ...]] = {
    "routes": (HTTPRouteHandler,),
    "tasks": (Blueprint,),
    "queues": (QueueShare,),
    "background": (BackgroundStep,),
    "loops": (BackgroundLoop,),
    "housekeeping": (Pruning, HousekeepingStep),
    "datasets": (Dataset,),
    "proofs": (Proof, SlowProof),
    "figures": (FigureReader,),
    "sealed": (SealedTable,),
    "event_data": (EventData,),
}

each_feature = pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_feature_is_in_the_list_once_and_under_the_name_of_its_folder() -> None:
    folders = [module_name(path.parent).removeprefix("erp_service.") for path in PACKAGE.rglob("feature.py")]
    assert sorted(folder for folder in folders if folder != "registry") == sorted(NAMES)
    assert [feature.name for feature in FEATURES] == list(NAMES)


def test_this_file_knows_the_type_of_each_kind_of_part() -> None:
    assert set(TYPES) == set(get_args(Kind))
    assert set(TYPES) < set(Feature.__struct_fields__)


@pytest.mark.parametrize("kind", TYPES)
@each_feature
def test_each_part_is_there_of_its_type_and_in_the_package_of_its_feature(feature: Feature, kind: Kind) -> None:
    for name in getattr(feature, kind):
        module, _, attribute = name.partition(":")
        assert attribute, f"{name} is a module: write `module:attribute`"
        assert module.startswith(f"erp_service.{feature.name}."), f"{name} belongs to another feature"
        parts = pkgutil.resolve_name(name)
        assert isinstance(parts, tuple | list), name
        assert parts, f"{name} is empty"
        for part in parts:
            assert isinstance(part, TYPES[kind]), f"{name} holds {part!r}"


def test_a_part_of_another_type_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(TypeError, match="which is no Proof or SlowProof"):
        load(FEATURES, "datasets", Proof, SlowProof)


@each_feature
def test_models_are_modules_of_the_feature_that_are_there(feature: Feature) -> None:
    for name in feature.models:
        assert name.startswith(f"erp_service.{feature.name}."), f"{name} belongs to another feature"
        importlib.import_module(name)


def test_every_table_belongs_to_one_feature() -> None:
    with_tables = {module_name(path) for path in MODULES if "__tablename__" in path.read_text()}
    for name in with_tables:
        importlib.import_module(name)
    owners: dict[str, list[str]] = {table: [] for table in Base.metadata.tables}
    assert owners
    for mapper in Base.registry.mappers:
        assert isinstance(mapper.local_table, Table)
        module = mapper.class_.__module__
        owners[mapper.local_table.name] += [feature.name for feature in FEATURES if module in feature.models]
    assert {table: names for table, names in owners.items() if len(names) != 1} == {}
    assert with_tables == {name for feature in FEATURES for name in feature.models}


def test_every_audit_action_is_declared_by_one_feature_and_every_declared_one_is_written() -> None:
    declared = Counter(action for feature in FEATURES for types in feature.event_types for action in types.names)
    assert [action for action, features in declared.items() if features != 1] == []
    written = list(written_actions())
    assert [one for one in written if one.action not in declared] == []
    assert set(declared) - {one.action for one in written} == set()


def test_only_audit_itself_knows_the_table_of_the_audit_log() -> None:
    """Else `record` would not be the only way to write an action."""
    words = ("AuditEntry", "insert into audit_log")
    knows = {module_name(path.parent) for path in MODULES if any(word in path.read_text() for word in words)}
    assert knows == {"erp_service.audit"}


def test_every_tag_of_a_route_is_declared_by_one_feature_and_every_declared_one_is_used() -> None:
    declared = Counter(tag for feature in FEATURES for tag, _ in feature.tags)
    assert [tag for tag, features in declared.items() if features != 1] == []
    used = {tag for _, handler in HANDLERS if handler.resolve_include_in_schema() for tag in handler.resolve_tags()}
    assert used == set(declared)


@pytest.mark.parametrize("dataset", load(FEATURES, "datasets", Dataset), ids=lambda dataset: dataset.name)
def test_each_dataset_says_who_may_read_it(dataset: Dataset) -> None:
    assert isinstance(dataset.role, Role)


def test_datasets_have_names_of_their_own() -> None:
    names = [dataset.name for dataset in load(FEATURES, "datasets", Dataset)]
    assert len(names) == len(set(names))


DEPENDENCIES = {
    **Services.__annotations__,
    "read": ReadSession,
    "write": WriteSession,
    "who": Principal,
    "password_hash": str,
    "reader": ReportReader,
}


@pytest.mark.parametrize(("path", "handler"), HANDLERS, ids=IDS)
def test_each_dependency_of_a_handler_has_the_type_that_it_says(path: str, handler: HTTPRouteHandler) -> None:
    """The framework gives dependencies by name alone, and checks no type."""
    for name, parameter in handler.parsed_fn_signature.parameters.items():
        is_marked = any(isinstance(marker, Dependency) for marker in parameter.metadata)
        assert is_marked == (name in DEPENDENCIES), f"{name}: a service is a NamedDependency, and nothing else is"
        if is_marked:
            assert parameter.annotation == DEPENDENCIES[name], name


@pytest.mark.parametrize("build", [build_services, build_worker_services])
def test_each_service_is_found_by_its_type(build: Callable[[Settings], ServiceSet]) -> None:
    services = build(SETTINGS)
    for name, kind in type(services).__annotations__.items():
        assert services.find(kind) is getattr(services, name), name


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_reads_the_state_of_the_app_but_the_dependencies(path: Path) -> None:
    """It has no types. What a request keeps for itself, `request.state`, is another thing."""
    if module_name(path) == "erp_service.web.dependencies":
        return
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Attribute) and node.attr == "state":
            assert ast.unparse(node.value) == "request", f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.arg) and node.annotation is not None:
            assert "State" not in ast.unparse(node.annotation).split("."), f"line {node.lineno}: ask for a service"
