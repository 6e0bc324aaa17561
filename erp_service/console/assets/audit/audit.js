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

export async function view({ main, query, signal, navigate }) {
  const place = h("div", { class: "stack" });
  main.append(heading(t("nav.audit")), place);
  await loading(place, () => Promise.all([get("/users", { limit: 500 }, { signal }), get("/events/types", {}, { signal })]), ([users, types]) => {
    const people = new Map(users.items.map(({ id, full_name: name }) => [id, name]));
    const fields = makeFields(query, people, types.items.map(({ name }) => name));
    const list = h("div");
    entries(list, fields, people, signal, navigate);
    return [form(fields, navigate), list];
  }, { signal });
}

function makeFields(query, people, types) {
  const given = (name) => query.get(name) ?? "";
  const text = (label, name, type = "text") => field(label, h("input", { type, name, value: given(name), autocomplete: "off", spellcheck: "false" }));
  const offering = (label, name, offered) => {
    const made = text(label, name);
    const list = h("datalist", { id: newId("offered") }, offered.map((value) => h("option", { value })));
    made.control.setAttribute("list", list.id);
    made.element.append(list);
    return made;
  };
  const user = given("user_id");
  const who = [["", t("all")], ...[...people].map(([id, name]) => [String(id), name]), ...people.has(Number(user)) || !user ? [] : [[user, user]]];
  return {
    user_id: field(t("audit.who"), select("user_id", who, user)),
    action: offering(t("audit.action"), "action", types),
    entity: offering(t("audit.object"), "entity", [...new Set(types.map((name) => name.split(".")[0]))]),
    entity_id: text(t("audit.id"), "entity_id"),
    from: text(t("from"), "from", "datetime-local"),
    to: text(t("to"), "to", "datetime-local"),
    request_id: text(t("audit.request"), "request_id"),
  };
}

const valuesOf = (fields) => Object.entries(fields).map(([name, { control }]) => [name, control.value.trim()]).filter(([, value]) => value);

function form(fields, navigate) {
  return h("form", { class: "filters", novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    navigate(`/audit?${new URLSearchParams(valuesOf(fields))}`);
  } }, Object.values(fields).map(({ element }) => element), h("button", { type: "submit" }, t("filter")));
}

async function entries(place, fields, people, signal, navigate) {
  const filter = Object.fromEntries(valuesOf(fields).map(([name, value]) => [name, name === "from" || name === "to" ? new Date(value).toISOString() : value]));
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
    // those that are open stay so when more are shown
    const drawn = new Map();
    const draw = (each) => drawn.get(each.id) ?? drawn.set(each.id, entryOf(each, people)).get(each.id);
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
      : pages("/audit", first, { ...filter, limit: LIMIT, signal }, (items) => h("div", { class: "entries" }, items.map(draw)))];
  }, { signal });
}
