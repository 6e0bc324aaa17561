// Who did what. The address keeps the filters, so that it can be sent to somebody.

import { get } from "../core/api.js";
import { h, newId } from "../core/dom.js";
import { entryOf } from "./entry.js";
import { pages } from "../core/pages.js";
import { Problem } from "../core/problem.js";
import { t } from "../core/texts.js";
import { empty, every, field, heading, loading, select } from "../core/ui.js";

const LIMIT = 50;
const SECONDS = 5;
const TIMES = ["from", "to"];

export async function view({ main, query, signal, navigate }) {
  const place = h("div", { class: "stack" });
  main.append(heading(t("nav.audit")), place);
  await loading(place, async () => Promise.all([get("/users", { limit: 500 }, { signal }), get("/events/types", {}, { signal })]), ([users, types]) => {
    const people = new Map(users.items.map(({ id, full_name: name }) => [id, name]));
    const fields = makeFields(query, people, types.items.map(({ name }) => name));
    const list = h("div");
    entries(list, fields, people, signal, navigate);
    return [form(fields, navigate), list];
  }, { signal });
}

function makeFields(query, people, types) {
  const given = (name) => query.get(name) ?? "";
  const text = (name, options = [], type = "text") => {
    const list = h("datalist", { id: newId("list") }, options.map((value) => h("option", { value })));
    const control = h("input", { type, name, value: given(name), list: options.length > 0 && list.id, autocomplete: "off", spellcheck: "false" });
    control.append(list);
    return control;
  };
  const kinds = [...new Set(types.map((name) => name.split(".")[0]))];
  const user = given("user_id");
  const who = [["", t("all")], ...[...people].map(([id, name]) => [String(id), name]), ...people.has(Number(user)) || !user ? [] : [[user, user]]];
  return Object.fromEntries([["user_id", t("audit.who"), select("user_id", who, user)], ["action", t("audit.action"), text("action", types)],
    ["entity", t("audit.object"), text("entity", kinds)], ["entity_id", t("audit.id"), text("entity_id")],
    ...TIMES.map((name) => [name, t(name), text(name, [], "datetime-local")]),
    ["request_id", t("audit.request"), text("request_id")]].map(([name, label, control]) => [name, field(label, control)]));
}

const valuesOf = (fields) => Object.entries(fields).map(([name, { control }]) => [name, control.value.trim()]).filter(([, value]) => value);

function form(fields, navigate) {
  return h("form", { class: "filters", novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    navigate(`/audit?${new URLSearchParams(valuesOf(fields))}`);
  } }, Object.values(fields).map(({ element }) => element), h("button", { type: "submit" }, t("filter")));
}

async function entries(place, fields, people, signal, navigate) {
  const filter = Object.fromEntries(valuesOf(fields).map(([name, value]) => [name, TIMES.includes(name) ? new Date(value).toISOString() : value]));
  const load = (limit) => get("/audit", { ...filter, limit }, { signal });
  await loading(place, () => load(LIMIT).catch((error) => {
    // each at the field that it names
    for (const { parameter, detail } of error instanceof Problem ? error.document.errors ?? [] : []) {
      fields[parameter]?.say(detail);
    }
    throw error;
  }), (first) => {
    const button = h("button", { type: "button", class: "primary", hidden: true, onclick: () => navigate(`/audit${location.search}`, { replace: true }) });
    const known = new Set(first.items.map(({ id }) => id));
    every(SECONDS, async () => {
      const isNew = ({ id }) => !known.has(id);
      // without an answer the next look may have one
      const [last] = await load(1).then(({ items }) => items.filter(isNew), () => []);
      const fresh = last ? await load(LIMIT).then(({ items }) => items.filter(isNew).length, () => 0) : 0;
      if (fresh > 0) {
        button.hidden = false;
        button.textContent = t("audit.new", { count: fresh === LIMIT ? `${LIMIT}+` : fresh });
      }
    }, signal);
    return [h("div", { role: "status" }, button), first.items.length === 0 ? empty(t("audit.none"))
      : pages("/audit", first, { ...filter, limit: LIMIT, signal }, (items) => h("div", { class: "entries" }, items.map((each) => entryOf(each, people))))];
  }, { signal });
}
