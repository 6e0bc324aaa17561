// Ledger entries as rows of a table.

import { h } from "../core/dom.js";
import { decimal, moment } from "../core/format.js";
import { address } from "../shell.js";
import { t } from "../core/texts.js";
import { table } from "../core/ui.js";

// With `open`, the kind leads to the document.
export function entryTable(entries, { withItem = true, open = false } = {}) {
  const columns = [[t("when"), ""], withItem && [t("sku"), ""], [t("kind"), ""], [t("location"), ""],
    [t("quantity"), "number"], [t("unit"), ""], [t("value"), "number"], [t("after"), "number"], [t("reference"), "wide"]];
  const rows = entries.map((entry) => [
    h("time", { datetime: entry.occurred_at, title: t("recorded", { time: moment(entry.recorded_at) }) }, moment(entry.occurred_at)),
    withItem && h("a", { href: address(`/stock/items/${entry.item_id}`) }, entry.sku),
    open ? h("a", { href: address(`/stock/ledger/${entry.transaction_id}`) }, kindOf(entry)) : kindOf(entry),
    entry.location ?? "–", signed(entry.quantity), entry.unit, decimal(entry.value, { least: 2 }),
    entry.on_hand_after === null ? "–" : decimal(entry.on_hand_after),
    [entry.reference_no, entry.reason, entry.notes].filter(Boolean).join(" · "),
  ]);
  const without = (cells) => cells.filter((cell) => cell !== false);
  return table(t("ledger"), without(columns), rows.map(without));
}

function kindOf({ transaction_type: kind, origin }) {
  return t(`entry.${kind}`) + (origin ? ` (${t(`origin.${origin}`)})` : "");
}

function signed(quantity) {
  return decimal(quantity, { signDisplay: "exceptZero" });
}
