// What an owner looks at in the morning.

import { get } from "../core/api.js";
import { barChart } from "../core/chart.js";
import { clusterLine } from "../operations/cluster.js";
import { h } from "../core/dom.js";
import { exportList } from "../exports/running.js";
import { clock, count, day, forDrawing, money, weekday, zone } from "../core/format.js";
import { address, may } from "../shell.js";
import { t } from "../core/texts.js";
import { card, every, heading, loading, table } from "../core/ui.js";

const SECONDS = 60;

export async function view({ main, me, signal }) {
  const figures = h("div");
  const load = () => get("/inventory/reports/summary", {}, { signal });
  main.append(heading(t("today")), figures,
    h("div", { class: "columns" },
      card(t("exports"), exportList(me, signal).element),
      may(me, "ADMIN") && card(t("cluster"), clusterLine(signal)) || ""));
  loading(figures, load, render, { signal });
  every(SECONDS, () => loading(figures, load, render, { signal, quiet: true }), signal);
}

function render(summary) {
  const low = summary.low_stock_items;
  return [
    h("dl", { class: "figures" },
      figure(t("today.value"), h("span", { title: money(summary.stock_value, summary.currency) },
        money(summary.stock_value, summary.currency, { most: 2 }))),
      figure(t("today.low"), h("a", { href: address("/stock/low"), class: low ? "worry" : "" }, count(low))),
      figure(t("today.movements"), count(summary.movements_last_7_days)),
      figure(t("today.items"), count(summary.active_items)),
      figure(t("today.locations"), count(summary.locations))),
    card(t("today.days"), days(summary),
      h("p", { class: "hint" }, t("today.asof", { time: clock(summary.as_of), zone: zone() }))),
  ];
}

function figure(name, value) {
  return h("div", null, h("dt", null, name), h("dd", null, value));
}

function days({ last_days: rows, currency }) {
  const whole = (value) => money(value, currency, { most: 2 });
  const groups = rows.map((row) => ({
    label: weekday(row.day),
    bars: [
      { value: row.value_in, kind: "in", title: `${day(row.day)}: ${t("today.in")} ${whole(row.value_in)}` },
      { value: row.value_out, kind: "out", title: `${day(row.day)}: ${t("today.out")} ${whole(row.value_out)}` },
    ],
  }));
  const cells = rows.map((row) => [day(row.day), count(row.entries), whole(row.value_in), whole(row.value_out)]);
  const columns = [[t("day"), ""], [t("today.movements"), "number"], [t("today.in"), "number"], [t("today.out"), "number"]];
  const legend = h("p", { class: "legend" }, h("span", { class: "in" }, t("today.in")), h("span", { class: "out" }, t("today.out")));
  return [legend, barChart(t("today.days"), groups, whole(highest(rows)), plainTable(columns, cells))];
}

function highest(rows) {
  const values = rows.flatMap((row) => [row.value_in, row.value_out]);
  return values.reduce((most, value) => (forDrawing(value) > forDrawing(most) ? value : most));
}

// In a chart's shadow: no place to scroll to by keyboard.
function plainTable(columns, cells) {
  const element = table(t("today.days"), columns, cells);
  return element.querySelector("table");
}
