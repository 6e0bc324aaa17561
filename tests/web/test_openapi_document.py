"""What the OpenAPI document says, and that generators of clients can use it."""

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from erp_service import errors
from erp_service.access.scopes import Keys, Scope
from erp_service.app import create_app
from erp_service.inventory.problems import LocationHasStock
from erp_service.services import build_services
from erp_service.web.openapi.document import document_of
from erp_service.web.openapi.problem_schemas import ProblemSchemas
from erp_service.web.routing import PUBLIC
from tests.architecture.assembled import SETTINGS
from tests.architecture.route_table import endpoints
from tests.architecture.source import MODULES, tree_of
from tests.web.openapi import DOCUMENT, SCHEMAS, operations, problems_of

OPERATION_IDS = """
adjustStock assembleKit cancelCount cancelExport cancelImport cancelJobs changePassword changeSettings changeUserRole
confirmSecondFactor createApiKey createDownloadUrl createItem createLocation createReservation createReservations
createSchedule createUser createWebhook deactivateUser deleteExport deleteImport deleteItem deleteLocation
deleteSchedule deleteWebhook downloadExport downloadExportHead downloadImportReport endSignIn endSignIns
estimateExport extendReservation followExport followImport getApiKey getCount getDatabaseHealth getExport getHealth
getHealthReady getImport getItem getLiveness getLocation getOperationsState getOwnProfile getReadingHealth
getReservation getScalingHealth getSchedule getSealHead getSecondFactor getSettings getStartup getTransaction getUser
getWebhook issueStock listApiKeys listAuditEntries listCountLines listCounts listCurrentStock listDatasets
listEventTypes listEvents listExports listFailedJobs listImports listItems listJobs listLedgerEntries listLocations
listReservations listSchedules listSeals listSettings listSignIns listUncounted listUsers listWebhookDeliveries
listWebhooks login logout lookupItems lookupStock openCount patchItem patchLocation patchSchedule patchUser postCount
postMovements reactivateUser receiveStock recordCountLines refreshTokens registerUser releaseReservation
removeSecondFactor renewRecoveryCodes replaceItem replaceLocation replaceSchedule replaceUser replayWebhook
reportLowStock reportMovements reportMovementsCsv reportSnapshot reportSnapshotCsv reportSummary reportTurnover
resetSecondFactor resetUserPassword restoreItem restoreLocation retryExport retryJobs revalueStock reverseTransaction
revokeApiKey rotateWebhookSecret runSchedule startSecondFactor submitExport submitImport testWebhook transferStock
undoImport updateWebhook writeItems
"""


def test_operation_ids_are_short_and_stay_as_they_are() -> None:
    """They are the names of the functions of every generated client: renaming one breaks its callers."""
    assert sorted(operation.id for operation in operations()) == OPERATION_IDS.split()


def test_the_document_is_the_same_at_each_call_and_on_each_instance() -> None:
    assert json.dumps(document_of(create_app(build_services(SETTINGS)))) == json.dumps(DOCUMENT)


def test_no_operation_documents_the_400_of_the_framework() -> None:
    for operation in operations():
        for status, answer in operation.said["responses"].items():
            if status >= "400" and operation.method != "head":
                assert list(answer["content"]) == ["application/problem+json"], f"{operation.id} {status}"
        assert ("400" in operation.said["responses"]) == ("requestBody" in operation.said), operation.id


def test_idempotency_key_if_none_match_and_request_id_are_parameters() -> None:
    for operation in operations():
        headers = {parameter["name"] for parameter in operation.parameters() if parameter["in"] == "header"}
        assert "X-Request-Id" in headers, operation.id
        assert ("Idempotency-Key" in headers) == ("Takes an `Idempotency-Key`" in operation.said["description"])
        assert ("If-None-Match" in headers) == ("304" in operation.said["responses"]), operation.id


def test_extension_members_of_problems_are_typed() -> None:
    kinds = {f"/problems/{kind.slug}": kind for kind in errors.kinds()}
    for operation in operations():
        for status, answer in operation.said["responses"].items():
            for slug, schema in problems_of(answer).items() if status >= "400" and "content" in answer else ():
                assert schema["properties"]["status"]["const"] == kinds[slug].status == int(status)
    assert "available" in SCHEMAS["InsufficientStockProblem"]["properties"]
    assert "retry_after" in SCHEMAS["TooManyProblem"]["properties"]
    assert SCHEMAS["ExportJobOut"]["properties"]["error"]["oneOf"][0] == {"$ref": "#/components/schemas/Problem"}


def test_types_of_the_same_name_are_noticed_when_the_document_is_made() -> None:
    assert "available" in SCHEMAS["StockOfItem"]["properties"]
    with pytest.raises(ValueError, match="ItemAtLocation"):
        ProblemSchemas({"ItemAtLocation": {}}).content([LocationHasStock])


def test_no_problem_is_raised_with_a_member_that_its_type_does_not_name() -> None:
    kinds = {kind.__name__: kind for kind in errors.kinds()}
    for path in MODULES:
        for call in ast.walk(tree_of(path)):
            if not isinstance(call, ast.Call):
                continue
            kind = kinds.get(getattr(call.func, "attr", getattr(call.func, "id", "")))
            if kind is None or not issubclass(kind, errors.Refused):
                continue
            members = {word.arg for word in call.keywords} - {"headers", "detail", None}
            known = kind.extension.__struct_fields__ if kind.extension else ()
            assert members <= {*known}, f"{path.name}:{call.lineno}"


def test_downloads_are_binary_and_not_text() -> None:
    (download,) = (operation for operation in operations() if operation.id == "downloadExport")
    for status in ("200", "206"):
        first, *_ = download.said["responses"][status]["content"].items()
        assert first[0] == "application/octet-stream"
        assert first[1]["schema"]["format"] == "binary"


def test_there_is_one_class_for_an_enum_and_not_one_for_each_use() -> None:
    """A generator makes a class of each."""
    enums = [json.dumps(schema["enum"]) for schema in schemas() if len(schema.get("enum", ())) > 2]
    repeated = {enum for enum in enums if enums.count(enum) > 1}
    assert not repeated


def test_no_tab_in_an_enum_and_no_end_of_a_comment_in_a_description() -> None:
    """A tab in an enum, and what ends a comment of JavaScript in a description."""
    for schema in schemas():
        assert all(str(value).isprintable() for value in schema.get("enum", ()))
    for text in texts(DOCUMENT):
        assert "*/" not in text, text


def test_the_datasets_and_formats_are_enums() -> None:
    assert "items" in SCHEMAS["DatasetName"]["enum"]
    assert "csv" in SCHEMAS["FormatName"]["enum"]
    for schema in ("ExportRequest", "ExportJobOut"):
        for field, name in {"dataset": "DatasetName", "format": "FormatName", "compression": "CompressionName"}.items():
            assert SCHEMAS[schema]["properties"][field]["$ref"].endswith(name), f"{schema}.{field}"


def test_no_property_and_no_parameter_is_without_a_description() -> None:
    silent = [
        f"{name}.{field}"
        for name, schema in SCHEMAS.items()
        for field, said in schema.get("properties", {}).items()
        if "description" not in said and "const" not in said
    ]
    silent += [
        f"{one.id}: {said['name']}" for one in operations() for said in one.parameters() if "description" not in said
    ]
    assert not silent, f"{len(silent)}: {silent}"


def test_each_body_has_an_example_but_for_those_with_secrets() -> None:
    """Nobody can offer the caller's own password or token."""
    secret = {"login", "refreshTokens", "changePassword", "startSecondFactor", "confirmSecondFactor"}
    secret |= {"removeSecondFactor", "renewRecoveryCodes"}
    without = {
        operation.id for operation in operations() if "requestBody" in operation.said and not operation.example()
    }
    assert without == secret


def schemas(node: Any = DOCUMENT) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "type" in node or "enum" in node:
            yield node
        for name, child in node.items():
            if name not in ("example", "examples"):
                yield from schemas(child)
    elif isinstance(node, list):
        for child in node:
            yield from schemas(child)


def texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, child in node.items():
            if name in ("description", "summary", "title") and isinstance(child, str):
                yield child
            else:
                yield from texts(child)
    elif isinstance(node, list):
        for child in node:
            yield from texts(child)


def test_each_operation_says_which_api_keys_may_call_it() -> None:
    """In `security`, beside the scheme of keys as OpenAPI 3.1 allows, in words, and by the problems of its 403."""
    scheme = DOCUMENT["components"]["securitySchemes"]["program_key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    handlers = {(endpoint.path, endpoint.method): endpoint for endpoint in endpoints()}
    by_path = {(re.sub(r":\w+}", "}", path), method): endpoint for (path, method), endpoint in handlers.items()}
    for operation in operations():
        endpoint = by_path[operation.path, operation.method.upper()]
        ways, text = operation.said["security"], operation.said["description"]
        assert {name for way in ways for name in way} <= DOCUMENT["components"]["securitySchemes"].keys(), operation.id
        keys = [way["program_key"] for way in ways if "program_key" in way]
        refused = operation.said["responses"].get("403", {})
        refusals = [*problems_of(refused)] if "content" in refused else []
        if endpoint.role is PUBLIC:
            assert ways == [{}], operation.id
            continue
        assert {"password": []} in ways, operation.id
        if endpoint.scope is Keys.NONE:
            assert keys == [], operation.id
            assert "Not for API keys." in text
        elif endpoint.scope is Keys.ANY:
            assert keys == [[]], operation.id
            assert "Any API key may call it." in text
        else:
            assert keys == [[endpoint.scope]], operation.id
            assert f"An API key needs the scope **{endpoint.scope}**." in text
        if operation.method != "head":
            assert ("/problems/not-for-api-keys" in refusals) == (endpoint.scope is Keys.NONE), operation.id
            assert ("/problems/api-key-scope" in refusals) == isinstance(endpoint.scope, Scope), operation.id
