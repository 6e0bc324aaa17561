// The tour of README.md with the client that openapi-generator generates for typescript-fetch.
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import {
  AuthApi, Configuration, DatasetName, ExportJobOutFromJSON, ExportsApi, ImportDataset, ImportsApi, ItemsApi, LocationsApi,
  LocationType, ResponseError, Status, StockApi, type InsufficientStockProblem, type InvalidProblem,
} from "../client";

const { TOUR_URL: basePath = "", TOUR_EMAIL: username = "", TOUR_PASSWORD: password = "" } = process.env;

async function refusal(request: Promise<unknown>): Promise<any> {
  try {
    await request;
  } catch (error) {
    assert(error instanceof ResponseError, String(error));
    return { status: error.response.status, problem: await error.response.json() };
  }
  throw new Error("this must be refused");
}

async function tour(): Promise<void> {
  const tag = randomUUID().slice(0, 8);
  const pair = await new AuthApi(new Configuration({ basePath })).login({ username, password });
  // this generator writes the token of an OAuth scheme into the header as it is, and that of the scheme of keys with a word
  // before it: it asks for one or both
  const token = async (scheme?: string) => scheme === "password" ? `Bearer ${pair.accessToken}` : pair.accessToken;
  const signedIn = new Configuration({ basePath, accessToken: token });
  const stock = new StockApi(signedIn), exported = new ExportsApi(signedIn), items = new ItemsApi(signedIn);

  const sku = `MUG-${tag}`, code = `STALL-${tag}`;
  const item = await items.createItemRaw({ itemBody: { sku, name: "Mug, blue", unit: "PCS", reorderPoint: "10" } });
  assert.equal(item.raw.status, 201);
  assert(item.raw.headers.get("Location")?.endsWith(String((await item.value()).id)));
  const locationBody = { code, name: "The market stall", locationType: LocationType.Warehouse };
  await new LocationsApi(signedIn).createLocation({ locationBody });

  const receipt = { sku, location: code, quantity: "24", unitCost: "3.15" };
  const first = await stock.receiveStockRaw({ receipt, idempotencyKey: `delivery-${tag}` });
  const again = await stock.receiveStockRaw({ receipt, idempotencyKey: `delivery-${tag}` });
  assert.equal((await first.value()).id, (await again.value()).id);
  assert.equal(again.raw.headers.get("Idempotency-Replayed"), "true");

  const short = await refusal(stock.issueStock({ issue: { sku, location: code, quantity: "25" } }));
  assert.equal((short.problem as InsufficientStockProblem).available, "24");

  const page = await stock.listLedgerEntries({ sku, limit: 1 });
  assert.equal(page.items[0]?.onHandAfter, "24");

  const bad = await refusal(items.createItem({ itemBody: { sku: "", name: "", unit: "PCS" } }));
  assert.equal(bad.status, 422);
  assert.deepEqual((bad.problem as InvalidProblem).errors?.map((fault) => fault.pointer).sort(), ["/name", "/sku"]);

  const submitted = await exported.submitExportRaw({ exportRequest: { dataset: DatasetName.StockMovements } });
  let job = ExportJobOutFromJSON(await submitted.raw.json());
  for (const deadline = Date.now() + 60_000; job.status !== Status.Succeeded;) {
    assert(Date.now() < deadline, JSON.stringify(job));
    job = await exported.getExport({ exportId: job.id, prefer: "wait=5" });
  }
  const file = await exported.downloadExport({ exportId: job.id });
  const content = Buffer.from(await file.arrayBuffer());
  assert.equal(createHash("sha256").update(content).digest("hex"), job.result?.sha256);
  assert(content.includes(sku));

  const body = new Blob([`sku,name,unit\nTEA-${tag},Earl Grey,PCS\n`]);
  const check = await new ImportsApi(signedIn).submitImport({ dataset: ImportDataset.Items, dryRun: true, body });
  assert.equal(check.status, Status.Queued);
  console.log("the tour is complete");
}

tour().catch((error) => { console.error(error); process.exit(1); });
