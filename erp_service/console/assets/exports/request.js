// What an export holds, and in which format; with an estimate that follows what is chosen.

import { newKey, post } from "../core/api.js";
import { columnList } from "./columns.js";
import { h, newId } from "../core/dom.js";
import { bytes, duration, zone } from "../core/format.js";
import { Problem, wordsOf } from "../core/problem.js";
import { datasetName, rowCount } from "./running.js";
import { hasText, language, t } from "../core/texts.js";
import { field, notice, select } from "../core/ui.js";

const PAUSE_MILLISECONDS = 700;
const LABELS = { reference_no: "reference", transaction_type: "kind", q: "nav.search" };
const CHOICES = { transaction_type: "entry", origin: "origin", role: "role", status: "item" };
const MOVING = ["today", "yesterday", "start of week", "start of month", "start of month -1 month", "today -7 days"];

// `offers` are values to choose from, beside which any other can be typed.
export function textField(label, name, value = "", offers = null, more = {}) {
  const list = offers && newId("offers");
  const made = field(label, h("input", { type: "text", name, value, autocomplete: "off", spellcheck: "false", list, ...more }));
  made.control.after(offers ? h("datalist", { id: list }, offers.map((each) => h("option", { value: each }))) : "");
  return made;
}

// `moves`: it is read for each run anew, so that a time may be relative.
function filterField({ name, type, choices }, value, moves) {
  const known = [LABELS[name], `filter.${name}`, name].find((each) => hasText(each));
  const label = known ? t(known) : name.replaceAll("_", " ");
  const options = type === "boolean" ? [["true", t("exports.yes")], ["false", t("no")]]
    : choices?.map((each) => [each, hasText(`${CHOICES[name]}.${each}`) ? t(`${CHOICES[name]}.${each}`) : each]);
  if (options) {
    return field(label, select(name, [["", "–"], ...options], String(value)));
  }
  return type !== "timestamp" ? textField(label, name, value) : moves ? textField(label, name, value, MOVING) : textField(label, name, value, null, { type: "date" });
}

// As the API takes it; a number that is none goes as it is, and the API says what is wrong with it.
function typed(text, type) {
  return type === "boolean" ? text === "true" : type === "integer" && /^\d{1,15}$/.test(text) ? Number(text) : text;
}

// A part of a form: `element`, `fields` by the names of the API behind `prefix`, `body()` and `send()`. `spec` is what it begins with.
export function requestForm(datasets, { spec = {}, prefix = "", signal }) {
  const fields = {};
  const place = h("div", { class: "stack" });
  const said = h("div", { class: "estimate", role: "status" });
  const which = field(t("exports.dataset"), select("dataset", datasets.map(({ name }) => [name, datasetName(name)]), spec.dataset ?? "stock_movements"));
  const grid = (each) => h("div", { class: "filters" }, each.map((one) => one.element));
  const element = h("div", { class: "stack" }, grid([which]), place, said);
  let own = {};
  let filters;
  let given;
  let sent = {};
  let asked = 0;
  let timer;

  function build() {
    const { name, columns, formats, compressions, filters: all } = datasets.find((each) => each.name === which.control.value);
    given = name === spec.dataset ? spec : {};
    const before = given.filter ?? {};
    const forms = formats.flatMap((each) => [[each, each.toUpperCase()], ...(each === "csv" ? [["excel", t("exports.excel")]] : [])]);
    // who has the code of an item or a location needs no id
    filters = all.filter((each) => !/^(item|location)_id$/.test(each.name) || before[each.name])
      .map((each) => ({ ...each, made: filterField(each, before[each.name], prefix) }));
    Object.keys(own).forEach((each) => delete fields[prefix + each]);
    // the control in which somebody types stays where it is
    [own.format, own.compression].forEach((each) => each?.element.remove());
    own = {
      dataset: which,
      format: field(t("exports.format"), select("format", forms, given.for && given.format === "csv" ? "excel" : given.format)),
      compression: field(t("exports.compression"), select("compression", compressions.map((each) => [each, each === "none" ? t("no") : each]), given.compression)),
      ...(columns.length && { columns: columnList(columns, given.columns) }),
      ...Object.fromEntries(filters.map((each) => [`filter/${each.name}`, each.made])),
    };
    Object.keys(own).forEach((each) => { fields[prefix + each] = own[each]; });
    which.element.after(own.format.element, own.compression.element);
    place.replaceChildren(own.columns?.element ?? "",
      filters.length ? h("details", { open: given.filter }, h("summary", null, t("exports.filter")), grid(filters.map(({ made }) => made))) : "");
  }

  function body() {
    const format = own.format.control.value;
    const excel = format === "excel";
    const filter = filters.map(({ name, type, made }) => [name, type, made.control.value.trim()]).filter(([,, text]) => text);
    return { timezone: prefix ? undefined : zone(), ...given, dataset: which.control.value, format: excel ? "csv" : format,
      for: excel ? given.for ?? `excel-${language()}` : undefined, csv: format === "csv" ? given.csv : undefined,
      compression: own.compression.control.value, columns: own.columns?.value(),
      filter: filter.length ? Object.fromEntries(filter.map(([name, type, text]) => [name, typed(text, type)])) : undefined };
  }

  // At the fields that it names, without taking the focus.
  function refused(error) {
    const named = error instanceof Problem ? [...error.fields] : [];
    named.forEach(([name, detail]) => {
      fields[prefix + name]?.say(detail);
      fields[prefix + name]?.element.closest("details")?.setAttribute("open", "");
    });
    return named.length && named.every(([name]) => fields[prefix + name]) ? "" : notice("bad", wordsOf(error));
  }

  // After a pause of typing; an answer counts only if nothing was asked after it.
  function estimate() {
    const mine = asked += 1;
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const answer = await post("/exports/estimates", body(), { signal }).catch((error) => error);
      if (mine === asked && !signal.aborted) {
        Object.values(own).forEach((each) => each.say(""));
        said.replaceChildren(answer instanceof Error ? refused(answer) : words(answer));
      }
    }, PAUSE_MILLISECONDS);
  }

  // The same once more, after an answer that was lost, is done once.
  async function send(path, content) {
    const text = JSON.stringify(content);
    sent = sent.text === text ? sent : { text, key: newKey() };
    const answer = await post(path, content, { key: sent.key });
    sent = {};
    return answer;
  }

  element.addEventListener("input", ({ target }) => {
    if (target === which.control) {
      build();
    }
    estimate();
  });
  build();
  estimate();
  return { element, fields, body, send };
}

function words({ rows, rows_is_estimate: isEstimate, bytes: size, seconds }) {
  const about = (what) => t("exports.about", { what });
  return [isEstimate ? about(rowCount(rows)) : rowCount(rows), about(bytes(size)), about(duration(seconds))].join(" · ");
}
