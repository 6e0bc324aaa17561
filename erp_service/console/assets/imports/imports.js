// A file is checked first; what was found, and the way to load it, is the page of that import. Below, all imports.

import { get, newKey } from "../core/api.js";
import { h } from "../core/dom.js";
import { moment, zone } from "../core/format.js";
import { pages } from "../core/pages.js";
import { t } from "../core/texts.js";
import { card, empty, every, field, heading, loading, select, sendingForm, table } from "../core/ui.js";
import { address, may } from "../shell.js";
import { ENDED, JOBS, ROLES, submit } from "./files.js";

const LIST_SECONDS = 5;
const ONLY_MOVEMENTS = ["timezone", "sort", "history"];

export async function view({ main, me, query, signal, navigate }) {
  main.append(heading(t("nav.imports")), h("div", { class: "columns" },
    card(t("imports.new"), importForm(me, query, signal, navigate)), card(t("imports.list"), importList(me, signal))));
}

function makeFields(me, query) {
  const choice = (name, options) => field(t(`imports.${name}`), select(name, options, query.get(name)));
  const named = (prefix, names) => names.map((name) => [name, t(`imports.${prefix}${name}`)]);
  const same = (names) => names.map((name) => [name, name]);
  const recognise = ["", t("imports.auto")];
  const refuse = ["", t("imports.refuse")];
  const take = ["true", t("imports.take")];
  return {
    file: field(t("imports.file"), h("input", { type: "file", name: "file" }), { hint: t("imports.hint") }),
    dataset: choice("dataset", named("", Object.keys(ROLES).filter((kind) => may(me, ROLES[kind])))),
    mode: choice("mode", named("", ["create", "update", "upsert"])),
    delimiter: choice("delimiter", [recognise, ["comma", ","], ["semicolon", ";"], ["tab", "Tab"], ["pipe", "|"]]),
    decimal_comma: choice("decimal_comma", [["", "12.5"], ["true", "12,5"]]),
    encoding: choice("encoding", [recognise, ...same(["cp1252", "cp1250", "iso-8859-15"])]),
    keep_codes: choice("keep_codes", [refuse, take]),
    timezone: choice("timezone", [refuse, ...same([zone(), "UTC", ...Intl.supportedValuesOf("timeZone")])]),
    sort: choice("sort", [["", t("imports.asis")], ["occurred_at", t("imports.bytime")]]),
    ...may(me, "ADMIN") && { history: choice("history", [refuse, take]) },
  };
}

function importForm(me, query, signal, navigate) {
  const fields = makeFields(me, query);
  const { file, dataset, mode, ...written } = fields;
  const bar = h("progress", { hidden: true, "aria-label": t("imports.sending") });
  let key = newKey();
  const fit = () => {
    // the same sent again is one import, whatever becomes of the answer
    key = newKey();
    const isMovements = dataset.control.value === "movements";
    mode.element.hidden = isMovements;
    ONLY_MOVEMENTS.forEach((name) => fields[name]?.element.toggleAttribute("hidden", !isMovements));
  };
  const check = async () => {
    const [chosen] = file.control.files;
    if (!chosen?.size) {
      file.say(t("imports.needed"));
      file.control.focus();
      return;
    }
    const said = Object.entries({ dataset, mode, ...written }).filter(([, { element, control }]) => !element.hidden && control.value);
    const options = Object.fromEntries(said.map(([name, { control }]) => [name, control.value]));
    navigate(await submit(chosen, options, { dry: true, key, signal, bar }));
  };
  const form = sendingForm(fields, t("imports.check"), check, dropZone(file), dataset.element, mode.element,
    h("details", { open: Object.keys(written).some((name) => query.has(name)) }, h("summary", null, t("imports.how")),
      h("div", { class: "filters" }, Object.values(written).map(({ element }) => element))), bar);
  form.addEventListener("change", fit);
  fit();
  return form;
}

// The native control does everything by keyboard; the room around it takes what is dropped.
function dropZone({ element, control }) {
  const over = (is) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", is);
  };
  const zone = h("div", { class: "drop", ondragover: over(true), ondragleave: over(false), ondrop: (event) => {
    over(false)(event);
    control.files = event.dataTransfer.files;
    control.dispatchEvent(new Event("change", { bubbles: true }));
  } }, element);
  return zone;
}

export const stepOf = (job) => t(job.dry_run ? "imports.dry" : job.undo_of ? "imports.undo" : "imports.load");
export const stateOf = ({ status }) => h("span", { class: `state ${status}` }, t(`export.${status}`));

function importList(me, signal) {
  const place = h("div");
  const query = { limit: 50, mine: may(me, "ADMIN") ? "false" : undefined };
  const columns = ["imports.file", "imports.dataset", "imports.step", "status", "when"].map((name, index) => [t(name), index ? "" : "wide"]);
  let isMoving = false;
  const row = (job) => [h("a", { href: address(`/imports/${job.id}`) }, job.filename), t(`imports.${job.dataset}`), stepOf(job),
    stateOf(job), moment(job.created_at)];
  const load = (quiet) => loading(place, () => get(JOBS, query, { signal }), (first) => {
    isMoving = first.items.some(({ status }) => !ENDED.includes(status));
    return first.items.length === 0 ? empty(t("imports.none"))
      : pages(JOBS, first, { signal, ...query }, (jobs) => table(t("imports.list"), columns, jobs.map(row)));
  }, { signal, quiet });
  load(false);
  every(LIST_SECONDS, () => isMoving && !place.contains(document.activeElement) && load(true), signal);
  return place;
}
