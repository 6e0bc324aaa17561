// The tour of README.md with the types that openapi-typescript generates, and openapi-fetch over them.
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "../client/schema";

const { TOUR_URL: baseUrl = "", TOUR_EMAIL: username = "", TOUR_PASSWORD: password = "" } = process.env;

type Job = components["schemas"]["ExportJobOut"];

async function tour(): Promise<void> {
  const tag = randomUUID().slice(0, 8);
  const erp = createClient<paths>({ baseUrl });
  const { data: pair } = await erp.POST("/api/v1/auth/login", {
    body: { username, password },
    bodySerializer: (form) => new URLSearchParams(form as Record<string, string>),
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
  });
  assert(pair);
  erp.use({
    onRequest: ({ request }) => { request.headers.set("Authorization", `Bearer ${pair.access_token}`); },
  });

  const sku = `MUG-${tag}`, code = `STALL-${tag}`;
  const item = await erp.POST("/api/v1/inventory/items", {
    body: { sku, name: "Mug, blue", unit: "PCS", status: "ACTIVE", decimals: 6, reorder_point: "10" },
  });
  assert.equal(item.response.status, 201);
  assert(item.response.headers.get("Location")?.endsWith(String(item.data?.id)));
  const location = await erp.POST("/api/v1/inventory/locations", {
    body: { code, name: "The market stall", location_type: "WAREHOUSE", allow_negative_stock: false },
  });
  assert.equal(location.response.status, 201);

  const receipt = {
    params: { header: { "Idempotency-Key": `delivery-${tag}` } },
    body: { sku, location: code, quantity: "24", unit_cost: "3.15" },
  };
  const first = await erp.POST("/api/v1/inventory/stock/in", receipt);
  const again = await erp.POST("/api/v1/inventory/stock/in", receipt);
  assert.equal(first.data?.id, again.data?.id);
  assert.equal(again.response.headers.get("Idempotency-Replayed"), "true");

  const short = await erp.POST("/api/v1/inventory/stock/out", { body: { sku, location: code, quantity: "25" } });
  // narrowed by its type: no other problem has `available`
  assert(short.error?.type === "/problems/insufficient-stock", JSON.stringify(short.error));
  assert.equal(short.error.available, "24");

  const page = await erp.GET("/api/v1/inventory/stock/ledger", { params: { query: { sku, limit: 1 } } });
  assert.equal(page.data?.items[0]?.on_hand_after, "24");

  const bad = await erp.POST("/api/v1/inventory/items", { body: { sku: "", name: "", unit: "PCS", status: "ACTIVE", decimals: 6 } });
  assert(bad.error?.type === "/problems/invalid");
  assert.deepEqual(bad.error.errors.map((fault) => fault.pointer).sort(), ["/name", "/sku"]);

  const submitted = await erp.POST("/api/v1/exports/jobs", {
    body: { dataset: "stock_movements", format: "csv", compression: "none", force_new: false },
  });
  assert(submitted.data && "status" in submitted.data);
  let job: Job = submitted.data;
  for (const deadline = Date.now() + 60_000; job.status !== "succeeded";) {
    assert(Date.now() < deadline, JSON.stringify(job));
    const params = { path: { export_id: job.id }, header: { Prefer: "wait=5" } };
    const { data } = await erp.GET("/api/v1/exports/jobs/{export_id}", { params });
    assert(data);
    job = data;
  }
  const file = await erp.GET("/api/v1/exports/jobs/{export_id}/download", {
    params: { path: { export_id: job.id } }, parseAs: "arrayBuffer",
  });
  assert(file.data);
  const content = Buffer.from(file.data);
  assert.equal(createHash("sha256").update(content).digest("hex"), job.result?.sha256);
  assert(content.includes(sku));

  const body = `sku,name,unit\nTEA-${tag},Earl Grey,PCS\n`;
  const check = await erp.POST("/api/v1/imports/jobs", {
    params: { query: { dataset: "items", dry_run: true } }, body, bodySerializer: (file) => file,
    headers: { "Content-Type": "text/csv" },
  });
  assert.equal(check.data?.status, "queued", JSON.stringify(check.error));
  console.log("the tour is complete");
}

tour().catch((error) => { console.error(error); process.exit(1); });
