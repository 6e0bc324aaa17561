// Posting stock by keyboard and scanner. Enter goes on, and posts at the end; then the next item can be scanned at once.
// What stays the same for the next one, location and reference, stays.

import { newKey } from "../core/api.js";
import { announce, h } from "../core/dom.js";
import { entryTable } from "./entries.js";
import { decimal, typedDecimal } from "../core/format.js";
import { input, itemEntry, itemFields } from "./item-entry.js";
import { again, send, unanswered } from "./pending.js";
import { Problem, wordsOf } from "../core/problem.js";
import { found } from "./scan.js";
import { address, may } from "../shell.js";
import { t } from "../core/texts.js";
import { field, heading, notice, placeFaults, select } from "../core/ui.js";

const KINDS = [["in", "STAFF"], ["out", "STAFF"], ["transfer", "STAFF"], ["adjustment", "ADMIN"]];
const PLACES = { transfer: ["from_location", "to_location"] };
const PENDING = "posting";

export async function view({ main, me, params: [kind], query, signal }) {
  const places = PLACES[kind] ?? ["location"];
  const fields = makeFields(kind, places);
  const said = h("div");
  const button = h("button", { type: "submit", class: "primary" }, t("post.do"));
  const posted = [];
  const list = h("div");
  const resolved = new Map();
  let key = newKey();
  let sending = false;

  const form = h("form", { class: "posting", novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    if (!sending) {
      sending = true;
      entry.during(() => entry.guarded(book));
    }
  } });
  const control = (name) => fields[name].control;
  const value = (name) => fields[name]?.control.value.trim() ?? "";
  const home = () => control(places.find((name) => value(name) === "") ?? (entry.item === null ? "item" : "quantity"));
  const entry = itemEntry(form, fields, { said, signal, home, enter, goOn, onPlace, onItem: () => {} });
  form.append(
    h("fieldset", null, h("legend", null, t("post.stays")), [...places, "reference_no", "reason"].map((name) => fields[name]?.element)),
    h("fieldset", null, h("legend", null, t("post.next")), fields.item.element, entry.chosen,
      h("div", { class: "pair" }, ["quantity", "unit"].map((name) => fields[name].element)),
      fields.unit_cost && h("div", { class: "pair" }, fields.unit_cost.element, fields.cost_of?.element), button));
  main.append(heading(t(`post.${kind}`), tabs(kind, me)), said, form, list);

  // Enter in a field: the next one that is still empty, or the posting itself.
  async function goOn(from) {
    const order = [...places, "item", "quantity", from === "quantity" && kind === "in" && "unit_cost", fields.reason && "reason"].filter(Boolean);
    const next = order.find((name) => value(name) === "" && name !== from);
    if (next) {
      control(next).focus();
    } else {
      await book();
    }
  }

  function setPlace(name, one) {
    control(name).value = one.code;
    resolved.set(name, one.code);
  }

  function onPlace(place) {
    const target = places.find((each) => value(each) === "") ?? places[places.length - 1];
    setPlace(target, place);
    announce(`${t(target)}: ${place.name}`);
  }

  // A scan of either kind is taken in every field of codes. Returns whether this one has its location.
  async function resolve(name) {
    const code = value(name);
    if (!code || resolved.get(name) === code) {
      return code !== "";
    }
    entry.clear();
    const { item, place } = await entry.ask(() => found(code, true, signal));
    if (place) {
      setPlace(name, place);
    } else if (item) {
      await entry.set(item);
      control(name).value = "";
    } else {
      await entry.offer(name, code, (one) => setPlace(name, one));
    }
    return Boolean(place);
  }

  async function enter(target) {
    const name = Object.keys(fields).find((each) => control(each) === target);
    if (!places.includes(name) || await resolve(name)) {
      await goOn(name);
    }
  }

  // Names each field that is not complete, and returns what is to be sent, or null.
  function body() {
    const needed = [...places, "item", "quantity", ...(fields.reason ? ["reason"] : [])];
    const missing = needed.filter((name) => value(name) === "");
    missing.forEach((name) => fields[name].say(t("field.needed")));
    const numbers = ["quantity", "unit_cost"].filter((name) => value(name) !== "" && typedDecimal(value(name)) === null);
    numbers.forEach((name) => fields[name].say(t("field.number")));
    const first = [...missing, ...numbers][0];
    if (first) {
      control(first).focus();
      return null;
    }
    const optional = { reference_no: value("reference_no"), reason: value("reason"), unit: value("unit"),
      [value("cost_of") || "unit_cost"]: value("unit_cost") && typedDecimal(value("unit_cost")) };
    return { sku: entry.item.sku, quantity: typedDecimal(value("quantity")),
      ...Object.fromEntries(places.map((name) => [name, value(name)])),
      ...Object.fromEntries(Object.entries(optional).filter(([, text]) => text)) };
  }

  async function book() {
    sending = true;
    try {
      entry.clear();
      const content = value("item") && !(await entry.take()) ? null : body();
      if (content !== null) {
        await sendNow({ key, path: `/inventory/stock/${kind}`, body: content });
      }
    } finally {
      sending = false;
    }
  }

  function freeze(frozen) {
    form.querySelectorAll("input, select, button").forEach((each) => { each.disabled = frozen; });
    button.textContent = t(frozen ? "post.sending" : "post.do");
  }

  // Until it is answered nothing may change: the same with the same key is booked at most once.
  async function sendNow(sent) {
    freeze(true);
    let answer;
    try {
      answer = await send(PENDING, sent, me, said, signal, summary(sent.body));
    } catch (error) {
      if (error.name !== "AbortError") {
        freeze(false);
        key = newKey();
        refused(error);
      }
      return;
    }
    freeze(false);
    key = newKey();
    done(answer);
  }

  function done(answer) {
    const entries = answer.entries ?? [answer];
    const [{ quantity, unit, sku }] = entries;
    entry.clear();
    posted.unshift(...entries);
    list.replaceChildren(h("h2", null, t("post.done")), entryTable(posted, { open: true }));
    announce(t("post.booked", { quantity: decimal(quantity), unit, sku }));
    said.replaceChildren(notice("good", t("post.booked", { quantity: decimal(quantity, { signDisplay: "exceptZero" }), unit, sku })));
    if (fields.unit_cost) {
      control("unit_cost").value = "";
    }
    entry.reset();
  }

  function refused(error) {
    const named = { ...fields, sku: fields.item, total_cost: fields.unit_cost };
    const rest = error instanceof Problem ? placeFaults(error, named) : [];
    if (error instanceof Problem && error.slug === "insufficient-stock") {
      fields.quantity.say(t("post.available", { quantity: decimal(error.document.available) }));
    }
    if (!(error instanceof Problem) || error.fields.size === 0 || rest.length) {
      said.replaceChildren(notice("bad", wordsOf(error), rest.map((text) => h("p", null, text))));
      control("quantity").select();
    }
  }

  places.forEach((name) => control(name).addEventListener("change", () => entry.aside(() => entry.guarded(() => resolve(name)))));
  const before = unanswered(PENDING, me);
  if (before) {
    freeze(true);
    entry.during(() => entry.guarded(async () => {
      await again(t("post.unanswered"), said, signal, t("post.again"), [t("post.lost"), summary(before.body)]);
      await sendNow(before);
    }));
    return;
  }
  if (query.get("sku")) {
    control("item").value = query.get("sku");
    await entry.during(() => entry.guarded(entry.take));
  }
  control(places[0]).focus();
}

function makeFields(kind, places) {
  const fields = {};
  for (const name of places) {
    fields[name] = field(t(name), input(name), { hint: t("post.place.hint") });
  }
  fields.reference_no = field(t("reference"), input("reference_no"));
  if (kind === "adjustment") {
    fields.reason = field(t("reason"), input("reason", { maxlength: "500" }));
  }
  Object.assign(fields, kind === "adjustment" ? itemFields(undefined, t("post.signed"), "text") : itemFields());
  if (kind === "in" || kind === "adjustment") {
    fields.unit_cost = field(t("post.cost"), input("unit_cost", { inputmode: "decimal" }), { hint: t("post.cost.hint") });
  }
  if (kind === "in") {
    const options = ["unit_cost", "total_cost"].map((name) => [name, t(`post.${name}`)]);
    fields.cost_of = field(t("post.cost.of"), select("cost_of", options, "unit_cost"));
  }
  return fields;
}

function tabs(kind, me) {
  return h("nav", { class: "tabs", "aria-label": t("post.kinds") }, KINDS.filter(([, role]) => may(me, role)).map(([each]) =>
    h("a", { href: address(`/stock/post/${each}`), "aria-current": each === kind && "page" }, t(`post.${each}`))));
}

function summary(body) {
  return [body.sku, decimal(body.quantity), body.unit, body.location, body.from_location, body.to_location].filter(Boolean).join(" · ");
}
