// One entry of the trail: a line that opens to what the change replaced and what it set, exactly.

import { h } from "../core/dom.js";
import { moment } from "../core/format.js";
import { address } from "../shell.js";
import { t } from "../core/texts.js";
import { empty, facts, table } from "../core/ui.js";
import { wordsOf } from "./words.js";

// Where the console shows it, by its kind; with a slash at the end, under its id.
const PAGES = { item: "/stock/items/", user: "/people/", count: "/stock/counts/", import: "/imports/", webhook: "/webhooks/", export: "/exports",
  schedule: "/exports/schedules", api_key: "/keys", company: "/settings", job: "/operations/jobs" };
const NAMES = ["sku", "code", "name", "full_name", "email", "url", "filename", "dataset"];
// in every change of what has a version
const ALWAYS = ["version", "updated_at"];

const link = (path, text) => h("a", { href: address(path) }, text);

// `people` are the names of users by their ids.
export function entryOf(entry, people) {
  const body = h("div", { class: "opened" });
  return h("details", { class: "entry", ontoggle: () => body.firstChild ?? body.append(...opened(entry, people)) },
    h("summary", null, h("time", { datetime: entry.at }, moment(entry.at)), h("span", null, doer(entry, people)),
      h("span", null, wordsOf(entry.action)), h("span", null, nameOf(entry, people))), body);
}

const person = (id, people) => people.get(id) ?? `${wordsOf("user")} ${id}`;

function doer({ user_id: id, actor }, people) {
  return id === null ? actor ?? t("audit.nobody") : person(id, people);
}

function nameOf({ entity, entity_id: id, before, after }, people) {
  const values = { ...before, ...after };
  return NAMES.map((name) => values[name]).find(Boolean) ?? (entity === "user" && people.get(Number(id)) || id);
}

function objectOf(entity, id) {
  const text = `${wordsOf(entity)} ${id}`;
  const path = PAGES[entity];
  // what a command imported has a number, and no page
  const hasPage = path && !(entity === "import" && /^\d+$/.test(id));
  return hasPage ? link(path.endsWith("/") ? path + encodeURIComponent(id) : path, text) : text;
}

function opened(entry, people) {
  const { entity, entity_id: id, user_id: user, actor, api_key_id: key, on_behalf_of: other, request_id: request } = entry;
  const item = entry.after?.item_id ?? entry.before?.item_id;
  const same = (query, text) => link(`/audit?${new URLSearchParams(query)}`, text);
  return [facts([
    [t("audit.object"), [objectOf(entity, id), item && [" · ", objectOf("item", item)], " · ", same({ entity, entity_id: id }, t("audit.history"))]],
    [t("audit.who"), [user === null ? doer(entry, people) : link(`/people/${user}`, person(user, people)), user !== null && actor && ` · ${actor}`,
      key && [" · ", link("/keys", `${wordsOf("api_key")} ${key}`)]]],
    other && [t("audit.for"), link(`/people/${other}`, person(other, people))],
    entry.reason && [t("reason"), entry.reason],
    [t("when"), entry.at],
    request && [t("audit.request"), [same({ request_id: request }, request), entry.address && ` · ${entry.address}`]],
  ]), ...difference(entry)];
}

// The JSON of each value by the path to it. A list is one value.
function flat(value, path = "") {
  return Object.entries(value ?? {}).flatMap(([name, part]) => (part && !Array.isArray(part) && typeof part === "object"
    ? flat(part, `${path}${name}.`) : [[path + name, JSON.stringify(part, null, part?.[0]?.constructor === Object ? 1 : 0)]]));
}

// A text as it is; one that is empty would not be seen.
const shown = (json) => (json.startsWith('"') && json !== '""' ? JSON.parse(json) : json);

function difference({ before, after }) {
  const [old, now] = [before, after].map((values) => new Map(flat(values)));
  const names = [...new Set([...old.keys(), ...now.keys()])];
  const changed = names.filter((name) => !ALWAYS.includes(name) && old.get(name) !== now.get(name));
  const columns = [[t("name"), ""], before && [t("audit.before"), "wide"], after && [t("audit.after"), "wide"]].filter(Boolean);
  const cell = (tag, values, name) => values.has(name) && h(old.get(name) === now.get(name) ? "span" : tag, { class: "exact" }, shown(values.get(name)));
  const draw = (each) => (each.length ? table(t("audit.object"), columns, each.map((name) => [name, before && cell("del", old, name), after && cell("ins", now, name)].filter((each) => each !== null))) : empty(t("audit.same")));
  const place = h("div", null, draw(changed));
  const all = h("button", { type: "button", class: "small", onclick: () => {
    place.replaceChildren(draw(names));
    all.remove();
    place.firstChild.focus();
  } }, t("audit.all", { count: names.length }));
  return [place, h("div", null, changed.length < names.length && all)];
}
