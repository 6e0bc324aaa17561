"""The tour of README.md with the client that openapi-python-client generates."""

import hashlib
import io
import os
import sys
import time
import uuid

from erp_client import AuthenticatedClient, Client
from erp_client.api.auth import login
from erp_client.api.exports import download_export, get_export, submit_export
from erp_client.api.imports import submit_import
from erp_client.api.items import create_item
from erp_client.api.locations import create_location
from erp_client.api.stock import issue_stock, list_ledger_entries, receive_stock
from erp_client.models import (
    DatasetName,
    ExportJobOut,
    ExportRequest,
    ImportDataset,
    ImportJobOut,
    InsufficientStockProblem,
    InvalidProblem,
    Issue,
    ItemBody,
    LocationBody,
    LocationType,
    LoginBody,
    Receipt,
    Status,
    TokenPair,
)
from erp_client.types import File

url, email, password = (os.environ[name] for name in ("TOUR_URL", "TOUR_EMAIL", "TOUR_PASSWORD"))
tag = uuid.uuid4().hex[:8]

pair = login.sync(client=Client(base_url=url), body=LoginBody(username=email, password=password))
assert isinstance(pair, TokenPair)
client = AuthenticatedClient(base_url=url, token=pair.access_token)

sku, code = f"MUG-{tag}", f"STALL-{tag}"
item = create_item.sync_detailed(
    client=client, body=ItemBody(sku=sku, name="Mug, blue", unit="PCS", reorder_point="10")
)
assert item.status_code == 201
assert item.headers["location"].endswith(str(item.parsed.id))
location = LocationBody(code=code, name="The market stall", location_type=LocationType.WAREHOUSE)
assert create_location.sync_detailed(client=client, body=location).status_code == 201

receipt = Receipt(sku=sku, location=code, quantity="24", unit_cost="3.15")
first, again = (
    receive_stock.sync_detailed(client=client, body=receipt, idempotency_key=f"delivery-{tag}") for _ in range(2)
)
assert first.parsed.id == again.parsed.id
assert again.headers["idempotency-replayed"] == "true"

refusal = issue_stock.sync(client=client, body=Issue(sku=sku, location=code, quantity="25"))
assert isinstance(refusal, InsufficientStockProblem), refusal
assert refusal.available == "24"

page = list_ledger_entries.sync(client=client, sku=sku, limit=1)
assert page.items[0].on_hand_after == "24"

bad = create_item.sync(client=client, body=ItemBody(sku="", name="", unit="PCS"))
assert isinstance(bad, InvalidProblem), bad
assert {fault.pointer for fault in bad.errors} == {"/sku", "/name"}

job = submit_export.sync(client=client, body=ExportRequest(dataset=DatasetName.STOCK_MOVEMENTS))
assert isinstance(job, ExportJobOut)
deadline = time.monotonic() + 60
while job.status != Status.SUCCEEDED:
    assert time.monotonic() < deadline, job
    job = get_export.sync(job.id, client=client, prefer="wait=5")
file = download_export.sync(job.id, client=client)
content = file.payload.read()
assert hashlib.sha256(content).hexdigest() == job.result.sha256
assert sku.encode() in content

body = File(io.BytesIO(f"sku,name,unit\nTEA-{tag},Earl Grey,PCS\n".encode()))
check = submit_import.sync(client=client, body=body, dataset=ImportDataset.ITEMS, dry_run=True)
assert isinstance(check, ImportJobOut), check
assert check.status == Status.QUEUED
sys.stdout.write("the tour is complete\n")
