// One import: followed while it runs; what was found in the file, line by line; and what can be done with it.

import { follow, get, getFile, newKey, post, remove } from "../core/api.js";
import { h } from "../core/dom.js";
import { count, duration, moment } from "../core/format.js";
import { Problem, wordsOf } from "../core/problem.js";
import { t } from "../core/texts.js";
import { action, asked, card, field, heading, loading, notice, sendingForm, table } from "../core/ui.js";
import { address, may } from "../shell.js";
import { ENDED, fileOf, JOBS, linesOf, ROLES, submit } from "./files.js";
import { stateOf, stepOf } from "./imports.js";

const LONGEST_LINE = 300;
const FIGURES = ["rows", "created", "updated", "unchanged", "blank_rows"];

// `query` says how the file is written, for whoever checks or loads it.
export async function view({ main, me, params: [id], query, signal, navigate }) {
  const path = `${JOBS}/${id}`;
  const place = h("div", { class: "stack" });
  const actions = h("div", { class: "actions" });
  const moving = h("div", { class: "stack" });
  const rest = h("div", { class: "stack" });
  const read = () => get(path, {}, { signal });
  let job = null;
  let drawn = "";
  main.append(place);
  await loading(place, read, (first) => {
    show(first);
    watch();
    return [heading(first.filename, actions), moving, rest];
  }, { signal });

  // What can have the focus is made anew only when the state is another one.
  function show(next) {
    job = next;
    moving.replaceChildren(facts(job), ...running(job));
    const state = [job.status, ...Object.keys(job.links)].join();
    if (state !== drawn) {
      drawn = state;
      actions.replaceChildren(...buttons(job, path, navigate));
      rest.replaceChildren(...outcome(job, path, { me, query, signal, navigate }));
    }
  }

  async function watch() {
    let after;
    while (!ENDED.includes(job.status) && !signal.aborted) {
      await follow(`${path}/events`, (_, next, position) => {
        after = position;
        show(next);
      }, { signal, after }).catch(() => {});
      // the instance stops, or has too many streams
      await new Promise((resolve) => { setTimeout(resolve, ENDED.includes(job.status) ? 0 : 1000); });
      await read().then(show, () => {});
    }
  }
}

function buttons(job, path, navigate) {
  const key = newKey();
  const gone = async () => {
    await remove(path);
    navigate("/imports");
  };
  return [
    job.links.cancel && action(t("exports.cancel"), () => post(`${path}/cancel`, undefined, { key })),
    ENDED.includes(job.status) && action(t("imports.delete"), gone, { confirm: { title: t("imports.delete.title"), text: t("imports.delete.text") } }),
  ].filter(Boolean);
}

function listed(kind, pairs) {
  return h("dl", { class: kind }, pairs.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

function facts(job) {
  return listed("facts-of", [[t("imports.step"), stepOf(job)], [t("status"), stateOf(job)], [t("imports.dataset"), t(`imports.${job.dataset}`)],
    job.dataset !== "movements" && [t("imports.mode"), t(`imports.${job.mode}`)],
    job.undo_of && [t("imports.of"), h("a", { href: address(`/imports/${job.undo_of}`) }, job.filename)],
    [t("when"), moment(job.finished_at ?? job.created_at)]].filter(Boolean));
}

function running({ status, progress }) {
  if (ENDED.includes(status)) {
    return [];
  }
  const left = progress.eta_seconds === null ? "" : ` · ${t("exports.left", { time: duration(progress.eta_seconds) })}`;
  return [h("progress", { max: 100, value: progress.percent ?? undefined, "aria-label": t("status") }),
    h("small", null, t("exports.rows", { rows: count(progress.rows_done) }) + left)];
}

function outcome(job, path, room) {
  const { result, error, links, dataset, dry_run: isDry } = job;
  const isDone = result !== null && ["succeeded", "expired"].includes(job.status);
  const isUndone = isDone && !isDry && !job.undo_of && dataset === "movements" && !links.undo;
  const isGood = isDone && isDry;
  return [
    error && notice("bad", h("strong", null, reasonOf(job)), !job.undo_of && again(job, room.query)),
    job.faults && faults(job, path, room),
    isGood && notice("good", t("imports.good")),
    isUndone && notice("", t("imports.undone")),
    isDone && listed("figures", FIGURES.map((name) => [t(`imports.${name}`), count(result[name])])),
    isDone && result.warnings.length > 0 && card(t("imports.warnings"), h("ul", { class: "plain" }, result.warnings.map((text) => h("li", null, text)))),
    isGood && may(room.me, ROLES[dataset]) && loadCard(job, room),
    links.undo && may(room.me, "ADMIN") && undoCard(job, path, room),
  ].filter(Boolean);
}

// Without the first fault, which the table has too.
function reasonOf({ error, faults: found }) {
  const problem = new Problem(error.status, error);
  return found ? problem.title : wordsOf(problem);
}

// To a check with the options of this one.
function again({ dataset, mode }, query) {
  return h("a", { href: `${address("/imports")}?${new URLSearchParams({ dataset, mode, ...Object.fromEntries(query) })}` }, t("imports.again"));
}

function faults(job, path, { query, signal }) {
  const place = h("div");
  const total = job.error.total ?? job.faults.length;
  const columns = [[t("imports.line"), "number"], [t("imports.column"), ""], [t("imports.wrong"), "wide"], [t("imports.raw"), "raw"]];
  const draw = (lines) => place.replaceChildren(table(t("imports.wrong"), columns, job.faults.map(({ line, column, value, detail }) =>
    [line && count(line), h("strong", null, column), detail, h("code", null, (lines.get(line) ?? value ?? "").slice(0, LONGEST_LINE))])));
  const report = async () => {
    const href = URL.createObjectURL(await getFile(`${path}/report`, { signal }));
    h("a", { href, download: `${job.filename}-report.csv` }).click();
    URL.revokeObjectURL(href);
  };
  draw(new Map());
  if (fileOf(job.id)) {
    linesOf(fileOf(job.id), new Set(job.faults.map(({ line }) => line)), query.get("encoding")).then(draw, () => {});
  }
  return card(`${t("imports.wrong")}: ${count(total)}`, place,
    total > job.faults.length && h("p", { class: "hint" }, t("imports.first", { count: count(job.faults.length) })),
    job.links.report && action(t("imports.report"), report));
}

function loadCard(job, { query, signal, navigate }) {
  const file = fileOf(job.id);
  if (!file) {
    return card(t("imports.load"), h("p", null, t("imports.gone")), again(job, query));
  }
  const key = newKey();
  const bar = h("progress", { hidden: true, "aria-label": t("imports.sending") });
  const load = async () => navigate(await submit(file, Object.fromEntries(query), { dry: false, key, signal, bar }));
  return card(t("imports.load"), action(t("imports.load.rows", { rows: count(job.result.rows) }), load, { kind: "primary" }), bar);
}

function undoCard(job, path, { navigate }) {
  const reason = field(t("reason"), h("input", { name: "reason", maxlength: "500", autocomplete: "off" }));
  const text = t("imports.undo.text", { rows: count(job.result.rows) });
  let key = newKey();
  reason.control.addEventListener("change", () => { key = newKey(); });
  return card(t("imports.undo"), h("p", { class: "hint" }, text), sendingForm({ reason }, t("imports.undo.do"), async () => {
    const why = reason.control.value.trim();
    if (!why) {
      reason.say(t("field.needed"));
      reason.control.focus();
    } else if (await asked(t("imports.undo.title"), text, t("imports.undo.do"))) {
      navigate(`/imports/${(await post(`${path}/undo`, { reason: why }, { key })).id}`);
    }
  }, reason.element));
}
