"""The tour of README.md with the client that openapi-generator generates for Python."""

import hashlib
import os
import time
import uuid

from erp_client import (
    ApiClient,
    AuthApi,
    Configuration,
    DatasetName,
    ExportRequest,
    ExportsApi,
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

url, email, password = (os.environ[name] for name in ("TOUR_URL", "TOUR_EMAIL", "TOUR_PASSWORD"))
tag = uuid.uuid4().hex[:8]

pair = AuthApi(ApiClient(Configuration(host=url))).login(email, password)
client = ApiClient(Configuration(host=url, access_token=pair.access_token))
stock, exports = StockApi(client), ExportsApi(client)

sku, code = f"MUG-{tag}", f"STALL-{tag}"
item = ItemsApi(client).create_item_with_http_info(
    ItemBody(sku=sku, name="Mug, blue", unit="PCS", reorder_point=Level("10"))
)
assert item.status_code == 201
assert item.headers["location"].endswith(str(item.data.id))
LocationsApi(client).create_location(
    LocationBody(code=code, name="The market stall", location_type=LocationType.WAREHOUSE)
)

receipt = Receipt(sku=sku, location=code, quantity=Quantity("24"), unit_cost=UnitCost("3.15"))
first, again = (stock.receive_stock_with_http_info(receipt, idempotency_key=f"delivery-{tag}") for _ in range(2))
assert first.data.id == again.data.id
assert again.headers["idempotency-replayed"] == "true"

try:
    stock.issue_stock(Issue(sku=sku, location=code, quantity=Quantity("25")))
except ApiException as refusal:
    assert str(refusal.data.actual_instance.available) == "24", refusal
else:
    raise AssertionError("more was issued than there is")

page = stock.list_ledger_entries(sku=sku, limit=1)
assert page.items[0].on_hand_after == "24"

try:
    # the client itself refuses an empty sku, so it is sent past its checks
    ItemsApi(client).create_item(ItemBody.model_construct(sku="", name="", unit="PCS"))
except ApiException as refusal:
    assert refusal.status == 422
    assert {fault.pointer for fault in refusal.data.actual_instance.errors} == {"/sku", "/name"}
else:
    raise AssertionError("an empty sku was accepted")

job = exports.submit_export(ExportRequest(dataset=DatasetName.STOCK_MOVEMENTS))
deadline = time.monotonic() + 60
while job.status != Status.SUCCEEDED:
    assert time.monotonic() < deadline, job
    job = exports.get_export(job.id, prefer="wait=5")
content = exports.download_export(job.id)
assert hashlib.sha256(content).hexdigest() == job.result.sha256
assert sku.encode() in content
print("the tour is complete")
