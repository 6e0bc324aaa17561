// Items at or below their reorder point.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { decimal } from "../core/format.js";
import { address } from "../shell.js";
import { t } from "../core/texts.js";
import { empty, heading, loading, table } from "../core/ui.js";
import { pages } from "../core/pages.js";

export async function view({ main, signal }) {
  const place = h("div");
  main.append(heading(t("low")), h("p", { class: "hint" }, t("low.hint")), place);
  await loading(place, () => get("/inventory/reports/low-stock", { limit: 100 }, { signal }), (first) =>
    (first.items.length === 0 ? empty(t("low.none")) : pages("/inventory/reports/low-stock", first, { signal, limit: 100 }, draw)), { signal });
}

function draw(lines) {
  const columns = [[t("sku"), ""], [t("name"), "wide"], [t("available"), "number"], [t("reorderpoint"), "number"],
    [t("shortage"), "number"], [t("unit"), ""]];
  return table(t("low"), columns, lines.map((line) => [
    h("a", { href: address(`/stock/items/${line.item_id}`) }, line.sku), line.name, decimal(line.available),
    line.reorder_point === null ? "–" : decimal(line.reorder_point), decimal(line.shortage), line.unit,
  ]));
}
