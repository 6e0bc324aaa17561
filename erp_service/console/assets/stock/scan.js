// What a code stands for that was typed or scanned, an item by its sku or barcode or a location by its code, and the
// keys of a scanner that is faster than any answer.

import { get, post } from "../core/api.js";
import { h } from "../core/dom.js";
import { t } from "../core/texts.js";

async function itemsOf(codes, signal) {
  return (await post("/inventory/items/lookup", { skus: codes, barcodes: codes }, { signal })).items;
}

async function itemOf(code, signal) {
  const items = await itemsOf([code], signal);
  return items.length === 1 ? items[0] : null;
}

async function locationOf(code, signal) {
  const { items } = await get("/inventory/locations", { code, limit: 2 }, { signal });
  return items.length === 1 ? items[0] : null;
}

// {item}, {place} or {}: where both have the code, what the field is for.
export async function found(code, isPlace, signal) {
  const [first, second] = isPlace ? ["place", "item"] : ["item", "place"];
  for (const kind of [first, second]) {
    const one = await (kind === "item" ? itemOf : locationOf)(code, signal);
    if (one) {
      return { [kind]: one };
    }
  }
  return {};
}

// What is like the words, as buttons to choose from; null if nothing is.
export async function offers(words, isPlace, take, signal) {
  const [path, sort] = isPlace ? ["/inventory/locations", "code"] : ["/inventory/items", "sku"];
  const { items } = await get(path, { q: words, sort, limit: 8 }, { signal });
  return items.length === 0 ? null : h("div", { class: "offers", role: "group", "aria-label": t("scan.offers") },
    items.map((one) => h("button", { type: "button", onclick: () => take(one) }, `${one.code ?? one.sku} · ${one.name}`)));
}

// Whether a text in the field of a quantity is no quantity but a code, of the item or any other: nobody counts by tens
// of millions.
export function looksScanned(text, item) {
  return /\d{8,}$/.test(text) || /[^\d.,\s−+-]/.test(text) || codesOf(item).some((code) => text.endsWith(code));
}

function codesOf(item) {
  return [item?.sku, item?.barcode].filter((code) => code?.length >= 4);
}

// What was typed into a quantity before the code that was scanned there: {before, code, item, place}.
export async function takenApart(text, item, signal) {
  const own = codesOf(item).find((code) => text.endsWith(code));
  if (own) {
    return { before: text.slice(0, -own.length), code: own, item };
  }
  // barcodes have 14, 13, 12 or 8 digits; of any other code, a number before it was typed
  const shorter = /^\d+$/.test(text) ? [14, 13, 12, 8].map((digits) => text.slice(-digits)) : [text.replace(/^[\d.,]+/, "")];
  const codes = [...new Set([text, ...shorter])].filter(Boolean);
  const items = await itemsOf(codes, signal);
  for (const code of codes) {
    const one = items.find(({ sku, barcode }) => sku === code || barcode === code);
    const place = one ? null : await locationOf(code, signal);
    if (one || place) {
      return { before: text.slice(0, -code.length), code, item: one, place };
    }
  }
  return { before: "", code: text };
}

// What waits when a scan leads to another view, for that one.
let carried = "";

// The keys of a form, in their order: while something is done, what is typed waits, and goes to the field that has the
// focus after it. `enter` gets the element in which Enter was pressed, and returns a promise; `home` says which field
// takes what is typed where nothing else takes it.
export function keysOf(form, { enter, home, signal }) {
  let busy = 0;
  let queue = Promise.resolve();
  let waiting = carried;
  carried = "";

  const isField = (element) => element.type === "text" && form.contains(element);
  const isElsewhere = (element) => element !== document.body && !element.closest("main, dialog");

  // One after the other, in the order in which it was begun. What is typed meanwhile does not wait.
  function aside(work) {
    const mine = queue.then(work);
    queue = mine.catch(() => {});
    return mine;
  }

  async function during(work) {
    busy += 1;
    try {
      return await aside(work);
    } finally {
      busy -= 1;
      replay();
    }
  }

  function replay() {
    if (!form.isConnected && !signal.aborted) {
      waiting = "";
    }
    while (waiting !== "" && busy === 0 && !signal.aborted) {
      const [, text, ended] = /^([^\n]*)(\n?)/.exec(waiting);
      waiting = waiting.slice(text.length + ended.length);
      const at = document.activeElement;
      if (text === "" && at instanceof HTMLButtonElement) {
        at.click();
        continue;
      }
      const target = isField(at) ? at : home();
      if (target !== at) {
        target.focus();
        target.select();
      }
      target.setRangeText(text, target.selectionStart, target.selectionEnd, "end");
      if (ended) {
        during(() => enter(target));
      }
    }
  }

  addEventListener("keydown", (event) => {
    const { key, target } = event;
    const printable = key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey;
    const takesText = target.matches("input:not([type=checkbox]), select, textarea");
    if (isElsewhere(target) || target.closest("dialog") || (takesText && !form.contains(target)) || event.isComposing
      || !(busy || form.isConnected)) {
      return;
    }
    if (busy > 0 && (printable || key === "Enter") && !(key === "Enter" && target.matches("button, a") && /(^|\n)$/.test(waiting))) {
      event.preventDefault();
      waiting += printable ? key : "\n";
    } else if (key === "Enter" && isField(target)) {
      event.preventDefault();
      during(() => enter(target));
    } else if (printable && key !== " " && !takesText) {
      const field = home();
      field.focus();
      field.select();
    }
  }, { capture: true, signal });

  // As if it were typed now, before all that waits.
  const type = (text) => {
    waiting = text + waiting;
    replay();
  };
  return { during, aside, type, carry: () => { carried = waiting; } };
}
