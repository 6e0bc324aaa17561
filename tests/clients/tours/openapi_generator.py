"""The tour of README.md with the client that openapi-generator generates for Python."""

import hashlib
import os
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from erp_client import (
    ApiClient,
    AuthApi,
    Configuration,
    DatasetName,
    ExportRequest,
    ExportsApi,
    ImportDataset,
    ImportsApi,
    Issue,
    ItemBody,
    ItemsApi,
    Level,
    LocationBody,
    LocationsApi,
    LocationType,
    Quantity,
    Receipt,
    Status,
    StockApi,
    UnitCost,
)
from erp_client.exceptions import ApiException


def refusal_of(call: Callable[[], object]) -> tuple[int, Any]:
    """The status and the problem of a request that must be refused."""
    try:
        call()
    except ApiException as refusal:
        return refusal.status, refusal.data.actual_instance
    raise AssertionError("this must be refused")


url, email, password = (os.environ[name] for name in ("TOUR_URL", "TOUR_EMAIL", "TOUR_PASSWORD"))
tag = uuid.uuid4().hex[:8]

pair = AuthApi(ApiClient(Configuration(host=url))).login(email, password)
client = ApiClient(Configuration(host=url, access_token=pair.access_token))
items, stock, exports = ItemsApi(client), StockApi(client), ExportsApi(client)

sku, code = f"MUG-{tag}", f"STALL-{tag}"
item = items.create_item_with_http_info(ItemBody(sku=sku, name="Mug, blue", unit="PCS", reorder_point=Level("10")))
assert item.status_code == 201
assert item.headers["location"].endswith(str(item.data.id))
LocationsApi(client).create_location(
    LocationBody(code=code, name="The market stall", location_type=LocationType.WAREHOUSE)
)

receipt = Receipt(sku=sku, location=code, quantity=Quantity("24"), unit_cost=UnitCost("3.15"))
first, again = (stock.receive_stock_with_http_info(receipt, idempotency_key=f"delivery-{tag}") for _ in range(2))
assert first.data.id == again.data.id
assert again.headers["idempotency-replayed"] == "true"

_, short = refusal_of(lambda: stock.issue_stock(Issue(sku=sku, location=code, quantity=Quantity("25"))))
assert str(short.available) == "24"

page = stock.list_ledger_entries(sku=sku, limit=1)
assert page.items[0].on_hand_after == "24"

# the client itself refuses an empty sku, so it is sent past its checks
status, bad = refusal_of(lambda: items.create_item(ItemBody.model_construct(sku="", name="", unit="PCS")))
assert status == 422
assert {fault.pointer for fault in bad.errors} == {"/sku", "/name"}

job = exports.submit_export(ExportRequest(dataset=DatasetName.STOCK_MOVEMENTS))
deadline = time.monotonic() + 60
while job.status != Status.SUCCEEDED:
    assert time.monotonic() < deadline, job
    job = exports.get_export(job.id, prefer="wait=5")
content = exports.download_export(job.id)
assert hashlib.sha256(content).hexdigest() == job.result.sha256
assert sku.encode() in content

file = f"sku,name,unit\nTEA-{tag},Earl Grey,PCS\n".encode()
check = ImportsApi(client).submit_import(ImportDataset.ITEMS, file, dry_run=True, _content_type="text/csv")
assert check.status == Status.QUEUED
sys.stdout.write("the tour is complete\n")
