// What a code stands for that was typed or scanned: an item by its sku or barcode, or a location by its code.

import { get, post } from "../core/api.js";

export async function itemOf(code, signal) {
  const { items } = await post("/inventory/items/lookup", { skus: [code], barcodes: [code] }, { signal });
  return items.length === 1 ? items[0] : null;
}

export async function locationOf(code, signal) {
  const { items } = await get("/inventory/locations", { code, limit: 2 }, { signal });
  return items.length === 1 ? items[0] : null;
}

export async function itemsLike(words, signal) {
  return (await get("/inventory/items", { q: words, sort: "sku", limit: 8 }, { signal })).items;
}

export async function locationsLike(words, signal) {
  return (await get("/inventory/locations", { q: words, sort: "code", limit: 8 }, { signal })).items;
}

// Whether a text in the field of a quantity can only be a code that was scanned there: nobody counts by tens of millions.
export function looksScanned(text) {
  return /\d{8,}$/.test(text);
}
