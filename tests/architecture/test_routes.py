"""What every route must have, held over all of them."""

import inspect
from typing import Any

import litestar
import pytest
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from sqlalchemy import UniqueConstraint

from erp_service import errors
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.app import create_app
from erp_service.db.base import Base
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.features import FEATURES
from erp_service.services import build_services
from erp_service.web.pages.problems import index, page
from erp_service.web.routing import PUBLIC, post
from tests.architecture.assembled import APP, HANDLERS, IDS, SETTINGS

OPEN = {
    "/console",
    "/console/{view:path}",
    "/console/assets/{name:str}",
    "/console/session",
    "/console/session/refresh",
    "/api/v1/auth/login",
    "/api/v1/auth/refresh",
    "/health",
    "/health/live",
    "/health/reading",
    "/health/ready",
    "/health/startup",
    "/metrics",
    "/problems",
    "/problems/{slug:str}",
    "/docs",
    "/docs/static",
    "/docs/static/{file_path:path}",
    "/schema",
    "/schema/openapi.json",
    "/schema/{path:str}",
}


@pytest.mark.parametrize(("path", "handler"), HANDLERS, ids=IDS)
def test_each_route_declares_its_least_role(path: str, handler: HTTPRouteHandler) -> None:
    role = handler.opt["role"]
    assert role is PUBLIC or isinstance(role, Role)
    if role is PUBLIC:
        assert path in OPEN, "say in OPEN that this route needs no token, if you mean it"


@pytest.mark.parametrize(("path", "handler"), HANDLERS, ids=IDS)
def test_at_most_one_generator_dependency_and_the_right_session(path: str, handler: HTTPRouteHandler) -> None:
    """Two of them turn a 409 into a 500: their errors come as an ExceptionGroup."""
    names = handler.parsed_fn_signature.parameters
    generators = [
        name
        for name, provided in handler.resolve_dependencies().items()
        if name in names and inspect.isasyncgenfunction(getattr(provided, "dependency", None))
    ]
    assert len(generators) <= 1
    kinds = {"read": ReadSession, "write": WriteSession}
    for name in generators:
        assert names[name].raw is not None
        assert kinds[name].__name__ in str(names[name].raw)


@pytest.mark.parametrize(("path", "handler"), HANDLERS, ids=IDS)
def test_each_documented_route_says_what_it_does(path: str, handler: HTTPRouteHandler) -> None:
    if handler.resolve_include_in_schema():
        assert handler.summary
        assert len(handler.description or "") > 30
        assert handler.tags


@pytest.mark.parametrize(("path", "handler"), HANDLERS, ids=IDS)
def test_what_answers_without_a_primary_only_reads_as_reports_do(path: str, handler: HTTPRouteHandler) -> None:
    """Its caller is looked up on a replica then, so it must have no other way to the database, and write nothing."""
    given = {name for name in handler.parsed_fn_signature.parameters if name in handler.resolve_dependencies()}
    if not handler.opt.get("without_primary"):
        assert "reader" not in given
        return
    assert path.startswith("/api/v1/inventory/reports/")
    assert handler.http_methods == {"GET"}
    assert given == {"reader"}
    assert "signed" not in handler.opt or not handler.opt["signed"]


def test_what_writes_cannot_be_declared_to_answer_without_a_primary() -> None:
    async def forgotten() -> str:
        """Posts."""
        return ""

    register = post("/forgotten", role=Role.STAFF, scope=Scope.STOCK_WRITE, without_primary=True)
    with pytest.raises(ImproperlyConfiguredException, match="Only what reads"):
        register(forgotten)


def test_a_raw_handler_stops_the_start() -> None:
    @litestar.get("/forgotten")
    async def forgotten() -> str:
        return ""

    with pytest.raises(ImproperlyConfiguredException, match="declares no role"):
        create_app(build_services(SETTINGS)).register(forgotten)


def test_the_document_names_what_each_list_holds() -> None:
    schemas = APP.openapi_schema.to_schema()["components"]["schemas"]
    assert "Struct" not in schemas
    assert not [name for name in schemas if "." in name or "_" in name]


KINDS = sorted(errors.kinds(), key=lambda kind: kind.slug)


def test_each_problem_has_a_slug_of_its_own() -> None:
    every: list[Any] = [errors.Refused]
    for kind in every:
        every += [k for k in kind.__subclasses__() if k not in every]
    slugs = [kind.slug for kind in every[1:]]
    assert len(slugs) == len(set(slugs))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.slug)
def test_each_problem_explains_itself(kind: type[errors.Refused]) -> None:
    assert kind.__doc__
    assert kind.__doc__ != errors.Refused.__doc__
    assert "<h1>" in (page(kind.slug) or "")
    assert f"/problems/{kind.slug}" in index()
    assert 400 <= kind.status < 600


def test_each_unique_constraint_has_a_meaning_for_the_caller() -> None:
    """Without one, a race between two callers would be answered by a conflict that says nothing."""
    assert FEATURES
    internal = {"idempotency", "trail", "rate_limits", "stock_ledger", "imports", "refresh_tokens", "export_jobs"}
    internal |= {"import_jobs"}
    for table in Base.metadata.tables.values():
        unique = [c.name for c in table.constraints if isinstance(c, UniqueConstraint)]
        unique += [index.name for index in table.indexes if index.unique]
        for name in unique if table.name not in internal else []:
            assert errors.meaning_of(str(name)), f"{name} means nothing"
