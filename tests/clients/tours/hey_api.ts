// The tour of README.md with the client that @hey-api/openapi-ts generates.
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import * as erp from "../client";
import { client } from "../client/client.gen";

const { TOUR_URL: baseUrl = "", TOUR_EMAIL: username = "", TOUR_PASSWORD: password = "" } = process.env;

async function tour(): Promise<void> {
  const tag = randomUUID().slice(0, 8);
  client.setConfig({ baseUrl });
  const { data: pair } = await erp.login({ body: { username, password }, throwOnError: true });
  client.setConfig({ baseUrl, auth: pair.access_token });

  const sku = `MUG-${tag}`, code = `STALL-${tag}`;
  const item = await erp.createItem({
    body: { sku, name: "Mug, blue", unit: "PCS", reorder_point: "10" }, throwOnError: true,
  });
  assert.equal(item.response.status, 201);
  assert(item.response.headers.get("Location")?.endsWith(String(item.data.id)));
  await erp.createLocation({
    body: { code, name: "The market stall", location_type: "WAREHOUSE" }, throwOnError: true,
  });

  const receipt = {
    body: { sku, location: code, quantity: "24", unit_cost: "3.15" },
    headers: { "Idempotency-Key": `delivery-${tag}` },
    throwOnError: true,
  } as const;
  const first = await erp.receiveStock(receipt), again = await erp.receiveStock(receipt);
  assert.equal(first.data.id, again.data.id);
  assert.equal(again.response.headers.get("Idempotency-Replayed"), "true");

  const short = await erp.issueStock({ body: { sku, location: code, quantity: "25" } });
  // narrowed by its type: no other problem has `available`
  assert(short.error?.type === "/problems/insufficient-stock", JSON.stringify(short.error));
  assert.equal(short.error.available, "24");

  const page = await erp.listLedgerEntries({ query: { sku, limit: 1 }, throwOnError: true });
  assert.equal(page.data.items[0]?.on_hand_after, "24");

  const bad = await erp.createItem({ body: { sku: "", name: "", unit: "PCS" } });
  assert(bad.error?.type === "/problems/invalid");
  assert.deepEqual(bad.error.errors?.map((fault) => fault.pointer).sort(), ["/name", "/sku"]);

  const submitted = await erp.submitExport({ body: { dataset: "stock_movements" }, throwOnError: true });
  assert("status" in submitted.data);
  let job: erp.ExportJobOut = submitted.data;
  for (const deadline = Date.now() + 60_000; job.status !== "succeeded";) {
    assert(Date.now() < deadline, JSON.stringify(job));
    const path = { export_id: job.id };
    job = (await erp.getExport({ path, headers: { Prefer: "wait=5" }, throwOnError: true })).data;
  }
  const file = await erp.downloadExport({ path: { export_id: job.id }, parseAs: "blob", throwOnError: true });
  const content = Buffer.from(await file.data.arrayBuffer());
  assert.equal(createHash("sha256").update(content).digest("hex"), job.result?.sha256);
  assert(content.includes(sku));

  const body = new Blob([`sku,name,unit\nTEA-${tag},Earl Grey,PCS\n`]);
  const check = await erp.submitImport({ query: { dataset: "items", dry_run: true }, body, throwOnError: true });
  assert.equal(check.data.status, "queued");
  console.log("the tour is complete");
}

tour().catch((error) => { console.error(error); process.exit(1); });
