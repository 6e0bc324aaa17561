// Posting stock by keyboard and scanner. Enter goes on, and posts at the end; then the next item can be scanned at once.
// What stays the same for the next one, location and reference, stays.

import { newKey } from "../core/api.js";
import { announce, h } from "../core/dom.js";
import { entryTable } from "./entries.js";
import { decimal, sum, typedDecimal } from "../core/format.js";
import { again, persistently, send, unanswered } from "./pending.js";
import { Problem, wordsOf } from "../core/problem.js";
import { found, keysOf, looksScanned, offers, onceMore, takenApart } from "./scan.js";
import { address, may } from "../shell.js";
import { t } from "../core/texts.js";
import { field, heading, notice, placeFaults } from "../core/ui.js";

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
  const chosen = h("p", { class: "chosen" });
  const resolved = new Map();
  let item = null;
  let key = newKey();
  let sending = false;
  // how often the item was scanned again, while nobody has said what that means
  let more = 0;
  // codes of what comes after this item: its quantity was not there yet when they were scanned
  const later = [];

  const submit = (event) => {
    event?.preventDefault();
    return keys.during(book);
  };
  const form = h("form", { class: "posting", onsubmit: submit, novalidate: true },
    h("fieldset", null, h("legend", null, t("post.stays")), [...places, "reference_no", "reason"].map((name) => fields[name]?.element)),
    h("fieldset", null, h("legend", null, t("post.next")), fields.item.element, chosen,
      h("div", { class: "pair" }, ["quantity", "unit"].map((name) => fields[name].element)), fields.unit_cost?.element, button));
  main.append(heading(t(`post.${kind}`), tabs(kind, me)), said, form, list);

  const control = (name) => fields[name].control;
  const value = (name) => fields[name]?.control.value.trim() ?? "";
  const home = () => control(places.find((name) => value(name) === "") ?? (item === null ? "item" : "quantity"));
  const keys = keysOf(form, { enter, home, signal });

  function clear() {
    more = 0;
    Object.values(fields).forEach((each) => each.say(""));
    said.replaceChildren();
  }

  // Enter in a field: the next one that is still empty, or the posting itself.
  function goOn(from) {
    const order = [...places, "item", "quantity", ...(from === "quantity" && kind === "in" ? ["unit_cost"] : []), ...(fields.reason ? ["reason"] : [])];
    const next = order.find((name) => value(name) === "" && name !== from);
    if (next) {
      control(next).focus();
      return null;
    }
    return submit();
  }

  function setItem(one) {
    item = one;
    control("item").value = one.sku;
    chosen.textContent = one.name;
    const units = [one.unit, ...one.units.map(({ unit }) => unit)];
    control("unit").replaceChildren(...units.map((unit) => h("option", { value: unit }, unit)));
    announce(one.name);
  }

  function setPlace(name, one) {
    control(name).value = one.code;
    resolved.set(name, one.code);
  }

  // A scan of either kind is taken in every field of codes. Returns whether the field has what belongs there.
  async function resolve(name) {
    const code = value(name);
    const isPlace = name !== "item";
    if (!code || (isPlace ? resolved.get(name) === code : item?.sku === code)) {
      return code !== "";
    }
    clear();
    const { item: one, place } = await persistently(() => found(code, isPlace, signal), said, signal, t("again"));
    if (one) {
      setItem(one);
      if (isPlace) {
        control(name).value = "";
      }
      return !isPlace;
    }
    if (place) {
      const target = isPlace ? name : places.find((each) => value(each) === "") ?? places[places.length - 1];
      setPlace(target, place);
      if (!isPlace) {
        control("item").value = item?.sku ?? "";
        control("item").select();
        announce(`${t(target)}: ${place.name}`);
      }
      return isPlace;
    }
    await offer(name, code, isPlace);
    return false;
  }

  // Nothing has exactly this code: what is like it, to choose from.
  async function offer(name, words, isPlace) {
    const like = await offers(words, isPlace, (one) => {
      isPlace ? setPlace(name, one) : setItem(one);
      clear();
      goOn(name);
    }, signal);
    fields[name].say(t(like ? "scan.choose" : "scan.unknown", { code: words }));
    if (like) {
      said.replaceChildren(like);
      like.querySelector("button").focus();
    } else {
      control(name).select();
    }
  }

  // A scanner that types into the quantity must not become one: the same item once more is asked about, and anything
  // else waits until this item is done.
  async function scannedInto(text) {
    const { before, code, item: one, place } = await persistently(() => takenApart(text, item, signal), said, signal, t("again"));
    control("quantity").value = before;
    if (one && one.sku === item?.sku) {
      more += 1;
      askOnceMore(before);
    } else if (item === null) {
      control("item").value = code;
      await enter(control("item"));
    } else if (one || place) {
      later.push(code);
      fields.quantity.say(t("scan.later", { name: (one ?? place).name }));
    } else {
      fields.quantity.say(t("scan.unknown", { code }));
    }
  }

  function askOnceMore(before) {
    const times = more;
    const answered = (quantity) => {
      clear();
      control("quantity").value = quantity;
      control("quantity").focus();
    };
    const counted = before.trim() === "" ? "1" : typedDecimal(before);
    const yes = () => answered(counted === null ? before : sum(counted, (counted.startsWith("-") ? "-" : "") + times));
    said.replaceChildren(notice("info", onceMore(item.name, times, yes, () => answered(before))));
    said.querySelector("button").focus();
  }

  async function enter(target) {
    const name = Object.keys(fields).find((each) => control(each) === target);
    try {
      if (name === "item" || places.includes(name)) {
        if (await resolve(name)) {
          await goOn(name);
        }
      } else if (name === "quantity" && looksScanned(value(name), item)) {
        await scannedInto(value(name));
      } else {
        await goOn(name);
      }
    } catch (error) {
      tell(error);
    }
  }

  function tell(error) {
    if (error.name !== "AbortError") {
      said.replaceChildren(notice("bad", wordsOf(error)));
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
      unit_cost: value("unit_cost") && typedDecimal(value("unit_cost")) };
    return { sku: item.sku, quantity: typedDecimal(value("quantity")),
      ...Object.fromEntries(places.map((name) => [name, value(name)])),
      ...Object.fromEntries(Object.entries(optional).filter(([, text]) => text)) };
  }

  async function book() {
    if (sending) {
      return;
    }
    sending = true;
    try {
      clear();
      if (value("item") && item?.sku !== value("item") && !(await resolve("item"))) {
        return;
      }
      const content = body();
      if (content !== null) {
        await sendNow({ key, path: `/inventory/stock/${kind}`, body: content });
      }
    } catch (error) {
      tell(error);
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
    clear();
    posted.unshift(...entries);
    list.replaceChildren(h("h2", null, t("post.done")), entryTable(posted));
    announce(t("post.booked", { quantity: decimal(quantity), unit, sku }));
    said.replaceChildren(notice("good", t("post.booked", { quantity: decimal(quantity, { signDisplay: "exceptZero" }), unit, sku })));
    item = null;
    chosen.textContent = "";
    ["item", "quantity", "unit_cost"].forEach((name) => { if (fields[name]) { control(name).value = ""; } });
    control("unit").replaceChildren();
    control("item").focus();
    keys.type(later.splice(0).map((code) => `${code}\n`).join(""));
  }

  function refused(error) {
    const named = { ...fields, sku: fields.item };
    const rest = error instanceof Problem ? placeFaults(error, named) : [];
    if (error instanceof Problem && error.slug === "insufficient-stock") {
      fields.quantity.say(t("post.available", { quantity: decimal(error.document.available) }));
    }
    if (!(error instanceof Problem) || error.fields.size === 0 || rest.length) {
      said.replaceChildren(notice("bad", wordsOf(error), rest.map((text) => h("p", null, text))));
      control("quantity").select();
    }
  }

  // who leaves a field by Tab has it looked up, too
  ["item", ...places].forEach((name) => control(name).addEventListener("change", () => keys.during(() => resolve(name).catch(tell))));
  const before = unanswered(PENDING, me);
  if (before) {
    freeze(true);
    keys.during(async () => {
      await again(t("post.unanswered"), said, signal, t("post.again"), [t("post.lost"), summary(before.body)]);
      await sendNow(before);
    }).catch(tell);
    return;
  }
  if (query.get("sku")) {
    control("item").value = query.get("sku");
    await keys.during(() => resolve("item").catch(tell));
  }
  control(places[0]).focus();
}

function makeFields(kind, places) {
  const text = (name, more) => h("input", { type: "text", name, autocomplete: "off", spellcheck: "false", maxlength: "100", ...more });
  const fields = {};
  for (const name of places) {
    fields[name] = field(t(name), text(name));
  }
  fields.reference_no = field(t("reference"), text("reference_no"));
  if (kind === "adjustment") {
    fields.reason = field(t("reason"), text("reason", { maxlength: "500" }));
  }
  fields.item = field(t("post.item"), text("item"));
  const hint = kind === "adjustment" ? t("post.signed") : undefined;
  fields.quantity = field(t("quantity"), text("quantity", { inputmode: kind === "adjustment" ? "text" : "decimal" }), { hint });
  fields.unit = field(t("unit"), h("select", { name: "unit" }));
  if (kind === "in" || kind === "adjustment") {
    fields.unit_cost = field(t("post.cost"), text("unit_cost", { inputmode: "decimal" }), { hint: t("post.cost.hint") });
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
