// Jobs: those that run or wait, drawn anew every few seconds, and those that failed, filtered by the address.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { count, duration, moment } from "../core/format.js";
import { pages } from "../core/pages.js";
import { Problem } from "../core/problem.js";
import { t } from "../core/texts.js";
import { card, empty, field, heading, loading } from "../core/ui.js";
import { live } from "./patch.js";
import { picks, pickTable } from "./picks.js";

const PATH = "/operations/jobs";
const SECONDS = 5;
const MOST_OPEN = 100;

export async function view({ main, query, signal, navigate }) {
  const place = h("div");
  const { said, again, shown } = live(place, () => get(PATH, { limit: MOST_OPEN }, { signal }), drawOpen, SECONDS, signal);
  const { load, parts } = failed(query, signal, navigate, again);
  main.append(heading(t("nav.jobs")), card(t("jobs.open"), h("div", { class: "stack" }, said, place, picks(place, "cancel", again))),
    card(t("jobs.failed"), h("div", { class: "stack" }, parts)));
  await Promise.all([shown, load()]);
}

function drawOpen({ items, next_cursor: more }) {
  const columns = [[t("jobs.job"), ""], [t("jobs.what"), ""], [t("jobs.owner"), ""], [t("status"), ""], [t("jobs.since"), "number"]];
  return items.length === 0 ? empty(t("jobs.none")) : [
    pickTable(t("jobs.open"), columns, items.map(({ id }) => String(id)), items.map((job) =>
      [String(job.id), what(job), job.owner ?? "", state(job), age(job)])),
    more !== null && h("p", { class: "hint" }, t("jobs.first", { count: count(MOST_OPEN) }))].filter(Boolean);
}

function age({ status, since }) {
  const time = since && duration(Math.abs(Date.now() - Date.parse(since)) / 1000);
  return status === "scheduled" ? t("jobs.in", { time }) : time ?? "–";
}

function what({ makes, dataset, task, queue }) {
  return [makes ? `${t(`jobs.${makes}`)}: ${dataset}` : task, h("small", null, ` ${queue}`)];
}

function state({ status, cancel_asked: asked, stalled, rows_done: rows }) {
  return [h("span", { class: `state ${stalled ? "failed" : status}` }, t(stalled ? "jobs.gone" : asked ? "export.canceling" : `jobs.${status}`)),
    h("small", null, rows ? ` ${t("exports.rows", { rows: count(rows) })}` : "")];
}

function failed(query, signal, navigate, openAgain) {
  const place = h("div");
  const text = (label, name, type = "text") =>
    [name, field(label, h("input", { type, name, value: query.get(name) ?? "", autocomplete: "off", spellcheck: "false" }))];
  const fields = Object.fromEntries([text(t("jobs.text"), "q"), text(t("ops.queue"), "queue"), text(t("jobs.task"), "task"),
    text(t("from"), "from", "datetime-local"), text(t("to"), "to", "datetime-local")]);
  const entered = () => Object.entries(fields).map(([name, { control }]) => [name, control.value.trim()]).filter(([, value]) => value);
  const filter = Object.fromEntries(entered().map(([name, value]) => [name, name === "from" || name === "to" ? new Date(value).toISOString() : value]));

  const load = (quiet = false) => loading(place, async () => {
    try {
      return await get(`${PATH}/failed`, filter, { signal });
    } catch (error) {
      for (const { parameter, detail } of error instanceof Problem ? error.document.errors ?? [] : []) {
        fields[parameter]?.say(detail);
      }
      throw error;
    }
  }, (page) => (page.items.length === 0 ? empty(t("jobs.none")) : pages(`${PATH}/failed`, page, { ...filter, signal }, drawFailed)), { signal, quiet });

  function submit(event) {
    event.preventDefault();
    navigate(`${PATH}?${new URLSearchParams(entered())}`);
  }

  return { load, parts: [
    h("form", { class: "filters", onsubmit: submit, novalidate: true }, Object.values(fields).map(({ element }) => element),
      h("button", { type: "submit" }, t("filter"))),
    place, picks(place, "retry", () => Promise.all([load(true), openAgain()]))] };
}

function drawFailed(lines) {
  const columns = [[t("jobs.job"), ""], [t("jobs.what"), ""], [t("jobs.owner"), ""], [t("when"), ""], [t("jobs.why"), "wide"]];
  return pickTable(t("jobs.failed"), columns, lines.map(({ job }) => job), lines.map((job) =>
    [job.number ?? job.job.slice(-8), what(job), job.owner ?? "", moment(job.at), job.reason ?? t("jobs.inlog")]));
}
