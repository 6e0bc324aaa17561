// One item: what there is of it, where, for whom, and how it came so.

import { get, post } from "../core/api.js";
import { stepChart } from "../core/chart.js";
import { h } from "../core/dom.js";
import { entryTable } from "./entries.js";
import { day, decimal, moment, money, sum } from "../core/format.js";
import { address, may } from "../shell.js";
import { t } from "../core/texts.js";
import { card, empty, heading, loading, table } from "../core/ui.js";

const DAYS = 90;
const DAY_MILLISECONDS = 86_400_000;

export async function view({ main, me, params: [id], signal }) {
  const place = h("div", { class: "stack" });
  main.append(place);
  const own = { item_id: id };
  await loading(place, async () => {
    const [item, stock, all] = await Promise.all([
      get(`/inventory/items/${id}`, {}, { signal }),
      get("/inventory/stock/current", { ...own, limit: 500 }, { signal }),
      post("/inventory/stock/lookup", { ids: [Number(id)] }, { signal }),
    ]);
    return { item, stock: stock.items, total: all.items[0] };
  }, ({ item, stock, total }) => [
    head(item, me), facts(item), figures(total, item),
    h("div", { class: "columns" },
      h("div", { class: "stack" }, card(t("locations"), locations(stock)),
        may(me, "STAFF") ? card(t("reservations"), reservations(own, signal)) : ""),
      history(item, signal)),
    card(t("ledger"), lastEntries(item, me, signal)),
  ], { signal });
}

function head(item, me) {
  const actions = [["in", "STAFF"], ["out", "STAFF"], ["transfer", "STAFF"], ["adjustment", "ADMIN"]]
    .filter(([, role]) => may(me, role) && item.deleted_at === null)
    .map(([kind]) => h("a", { class: "button", href: `${address(`/stock/post/${kind}`)}?sku=${encodeURIComponent(item.sku)}` }, t(`post.${kind}`)));
  return heading(item.name, h("div", { class: "actions" }, actions));
}

// Over all locations.
function figures(total, { reorder_point: least }) {
  if (total === undefined) {
    return "";
  }
  const { on_hand: onHand, available, value, unit_value: unitValue, unit, currency } = total;
  const isLow = least !== null && /^(-|0$)/.test(sum(available ?? onHand, `-${least}`));
  const each = [[t("onhand"), `${decimal(onHand)} ${unit}`],
    [t("available"), [`${decimal(available ?? onHand)} ${unit}`, isLow && h("small", { class: "worry" }, ` ${t("low")}`)]],
    [t("value"), money(value, currency, { most: 2 })], [t("unitvalue"), unitValue === null ? "–" : money(unitValue, currency, { most: 4 })]];
  return h("dl", { class: "figures" }, each.map(([name, text]) => h("div", null, h("dt", null, name), h("dd", null, text))));
}

function facts(item) {
  const facts = [
    [t("sku"), item.sku], [t("unit"), item.unit], item.barcode && [t("barcode"), item.barcode],
    item.reorder_point !== null && [t("reorderpoint"), decimal(item.reorder_point)],
    item.status !== "ACTIVE" && [t("status"), t(`item.${item.status}`)],
    ...item.units.map((pack) => [t("pack"), t("pack.is", { pack: pack.unit, unit: item.unit,
      quantity: pack.denominator === 1 ? decimal(String(pack.numerator)) : `${pack.numerator}/${pack.denominator}` })]),
  ].filter(Boolean);
  return [h("dl", { class: "facts-of" }, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
    item.description ? h("p", null, item.description) : ""];
}

function locations(stock) {
  if (stock.length === 0) {
    return empty(t("item.nowhere"));
  }
  const columns = [[t("location"), ""], [t("onhand"), "number"], [t("reserved"), "number"], [t("available"), "number"], [t("value"), "number"]];
  return table(t("locations"), columns, stock.map((level) => [level.location, decimal(level.on_hand),
    decimal(level.reserved ?? "0"), decimal(level.available ?? level.on_hand), money(level.value, level.currency, { most: 2 })]));
}

function reservations(own, signal) {
  const place = h("div");
  const columns = [[t("location"), ""], [t("quantity"), "number"], [t("unit"), ""], [t("reference"), "wide"], [t("until"), ""]];
  loading(place, () => get("/inventory/reservations", { ...own, status: "ACTIVE", limit: 100 }, { signal }), ({ items }) =>
    (items.length === 0 ? empty(t("reservations.none")) : table(t("reservations"), columns, items.map((one) =>
      [one.location, decimal(one.quantity), one.unit, one.reference ?? "", moment(one.expires_at)]))), { signal });
  return place;
}

function lastEntries(item, me, signal) {
  const place = h("div");
  loading(place, () => get("/inventory/stock/ledger", { item_id: item.id, limit: 10 }, { signal }), ({ items }) =>
    (items.length === 0 ? empty(t("ledger.none")) : [entryTable(items, { withItem: false, open: may(me, "STAFF") }),
      h("p", null, h("a", { href: `${address("/stock/ledger")}?sku=${encodeURIComponent(item.sku)}` }, t("ledger.all")))]), { signal });
  return place;
}

function history(item, signal) {
  const place = h("div");
  const until = Date.now();
  const from = until - DAYS * DAY_MILLISECONDS;
  const query = { item_id: item.id, period: "day", from: new Date(from).toISOString(), limit: 500 };
  loading(place, () => get("/inventory/reports/movements", query, { signal }), ({ items }) =>
    (items.length === 0 ? empty(t("item.unmoved", { days: DAYS })) : charts(items, from, until)), { signal });
  return card(t("item.history", { days: DAYS }), place);
}

function charts(lines, from, until) {
  const ends = [day(new Date(from).toISOString().slice(0, 10)), t("item.today")];
  const drawn = (label, opening, closing, words) => {
    const first = { at: from, value: lines[0][opening] };
    const points = [first, ...lines.map((line) => ({ at: Date.parse(`${line.period}T00:00:00`), value: line[closing] }))];
    const sorted = points.map(({ value }) => value).sort((a, b) => Number(a) - Number(b));
    const rows = lines.map((line) => [day(line.period), words(line[closing])]);
    const shadow = table(label, [[t("day"), ""], [label, "number"]], rows).querySelector("table");
    const scale = [words(sorted[sorted.length - 1]), words(sorted[0])];
    return [h("h3", null, label), stepChart(label, points, { from, until, ends, scale }, shadow)];
  };
  const { unit, currency } = lines[0];
  return [drawn(t("onhand"), "opening_quantity", "closing_quantity", (value) => `${decimal(value)} ${unit}`),
    drawn(t("value"), "opening_value", "closing_value", (value) => money(value, currency, { most: 2 }))];
}
