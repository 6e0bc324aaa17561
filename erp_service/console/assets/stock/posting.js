// Posting stock by keyboard and scanner. Enter goes on, and posts at the end; then the next item can be scanned at once.
// What stays the same for the next one, location and reference, stays.

import { announce, h } from "../core/dom.js";
import { entryTable } from "./entries.js";
import { decimal, typedDecimal } from "../core/format.js";
import { openPosting, send, unanswered, Unanswered } from "./pending.js";
import { Problem, wordsOf } from "../core/problem.js";
import { itemOf, itemsLike, locationOf, locationsLike, looksScanned } from "./scan.js";
import { address, may } from "../shell.js";
import { t } from "../core/texts.js";
import { field, heading, notice, placeFaults } from "../core/ui.js";

const KINDS = [["in", "STAFF"], ["out", "STAFF"], ["transfer", "STAFF"], ["adjustment", "ADMIN"]];
const PLACES = { transfer: ["from_location", "to_location"] };

export async function view({ main, me, params: [kind], query, signal }) {
  const places = PLACES[kind] ?? ["location"];
  const fields = makeFields(kind, places);
  const said = h("div");
  const button = h("button", { type: "submit", class: "primary" }, t("post.do"));
  const posted = [];
  const list = h("div");
  const chosen = h("p", { class: "chosen" });
  let item = null;
  let quantity = "";
  let posting = openPosting();
  // what was entered is looked up one after the other: a fast scanner is ahead of the answers
  let queue = Promise.resolve();
  const resolved = new Map();

  const form = h("form", { class: "posting", onsubmit: submit, novalidate: true },
    h("fieldset", null, h("legend", null, t("post.stays")), [...places, "reference_no", "reason"].map((name) => fields[name]?.element)),
    h("fieldset", null, h("legend", null, t("post.next")), fields.item.element, chosen,
      h("div", { class: "pair" }, ["quantity", "unit"].map((name) => fields[name].element)), fields.unit_cost?.element, button));
  main.append(heading(t(`post.${kind}`), tabs(kind, me)), said, form, list);

  const control = (name) => fields[name].control;
  const value = (name) => fields[name]?.control.value.trim() ?? "";

  function clear() {
    Object.values(fields).forEach((each) => each.say(""));
    said.replaceChildren();
  }

  // Enter in a field: the next one that is still empty, or the posting itself.
  function goOn(from) {
    const order = [...places, "item", "quantity", ...(from === "quantity" && kind === "in" ? ["unit_cost"] : []), ...(fields.reason ? ["reason"] : [])];
    const next = order.find((name) => value(name) === "" && name !== from) ?? null;
    if (next === null || (from === "unit_cost" && next === "unit_cost")) {
      form.requestSubmit();
    } else {
      control(next).focus();
    }
  }

  function setItem(found) {
    item = found;
    control("item").value = found.sku;
    chosen.textContent = found.name;
    const units = [found.unit, ...found.units.map(({ unit }) => unit)];
    control("unit").replaceChildren(...units.map((unit) => h("option", { value: unit }, unit)));
    announce(found.name);
  }

  // A scan of either kind is taken in every field of codes. Returns whether the field has what belongs there.
  async function resolve(name) {
    const code = value(name);
    const isPlace = name !== "item";
    if (!code || (isPlace ? resolved.get(name) === code : item?.sku === code)) {
      return code !== "";
    }
    clear();
    const place = isPlace ? await locationOf(code, signal) : null;
    const found = place ? null : await itemOf(code, signal);
    const elsewhere = place ?? (found ? null : await locationOf(code, signal));
    if (found) {
      setItem(found);
      if (isPlace) {
        control(name).value = "";
      }
      return !isPlace;
    }
    if (elsewhere) {
      const target = isPlace ? name : places.find((each) => value(each) === "") ?? places[places.length - 1];
      control(target).value = elsewhere.code;
      resolved.set(target, elsewhere.code);
      if (!isPlace) {
        control("item").value = item?.sku ?? "";
        announce(`${t(target)}: ${elsewhere.name}`);
      }
      return isPlace;
    }
    await offer(name, code, isPlace);
    return false;
  }

  // Nothing has exactly this code: what is like it, to choose from.
  async function offer(name, words, isPlace) {
    const like = isPlace ? await locationsLike(words, signal) : await itemsLike(words, signal);
    fields[name].say(t(like.length ? "scan.choose" : "scan.unknown", { code: words }));
    if (like.length === 0) {
      control(name).select();
      return;
    }
    const take = (one) => {
      if (isPlace) {
        control(name).value = one.code;
        resolved.set(name, one.code);
      } else {
        setItem(one);
      }
      clear();
      goOn(name);
    };
    const buttons = like.map((one) => h("button", { type: "button", onclick: () => take(one) }, `${one.code ?? one.sku} · ${one.name}`));
    said.replaceChildren(h("div", { class: "offers", role: "group", "aria-label": t("scan.offers") }, buttons));
    buttons[0].focus();
  }

  // A scanner that types into the quantity must not become one: the same item once more is asked about.
  async function scannedInto(text) {
    const codes = [item?.sku, item?.barcode].filter(Boolean);
    const code = codes.find((each) => text.endsWith(each) && text !== "" && !(each.length < 4)) ?? /\d{8,}$/.exec(text)[0];
    const same = codes.includes(code);
    // what was typed before the scan; of another code nobody knows where it begins
    const before = same ? text.slice(0, -code.length) : quantity;
    control("quantity").value = before;
    const found = same ? item : await itemOf(code, signal);
    if (!same) {
      fields.quantity.say(t("scan.other", { code: found?.name ?? code }));
      return;
    }
    const one = h("button", { type: "button", class: "primary", onclick: () => {
      quantity = (BigInt(/^\d+$/.test(before) ? before : "1") + 1n).toString();
      control("quantity").value = quantity;
      clear();
      control("quantity").focus();
    } }, t("scan.onemore"));
    const no = h("button", { type: "button", onclick: () => { clear(); control("quantity").focus(); } }, t("scan.no"));
    said.replaceChildren(notice("info", h("p", null, t("scan.again", { name: item.name })), h("div", { class: "actions" }, one, no)));
    one.focus();
  }

  async function enter(event) {
    const name = Object.keys(fields).find((each) => control(each) === event.target);
    if (event.key !== "Enter" || !name) {
      return;
    }
    event.preventDefault();
    await guarded(async () => {
      if (name === "item" || places.includes(name)) {
        if (await resolve(name)) {
          goOn(name);
        }
      } else if (name === "quantity" && isScan(value(name))) {
        await scannedInto(value(name));
      } else {
        quantity = value("quantity");
        goOn(name);
      }
    });
  }

  function isScan(text) {
    return looksScanned(text) || (item !== null && [item.sku, item.barcode].some((code) => code && code.length >= 4 && text.endsWith(code)));
  }

  function guarded(work) {
    queue = queue.then(work).catch((error) => {
      if (error.name !== "AbortError") {
        said.replaceChildren(notice("bad", wordsOf(error)));
      }
    });
    return queue;
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

  async function submit(event) {
    event.preventDefault();
    if (posting.body !== null) {
      return;
    }
    clear();
    if (value("item") && item?.sku !== value("item") && !(await resolve("item").catch(() => false))) {
      return;
    }
    const content = body();
    if (content !== null && posting.body === null) {
      await sendNow({ ...posting, kind, body: content });
    }
  }

  function freeze(frozen) {
    form.querySelectorAll("input, select, button").forEach((each) => { each.disabled = frozen; });
  }

  async function sendNow(sent) {
    posting = sent;
    freeze(true);
    button.textContent = t("post.sending");
    try {
      const answer = await send(sent, me);
      done(answer);
    } catch (error) {
      if (error instanceof Unanswered) {
        lost(sent, error.reason);
      } else {
        refused(error);
      }
    } finally {
      button.textContent = t("post.do");
    }
  }

  function done(answer) {
    const entries = answer.entries ?? [answer];
    posting = openPosting();
    freeze(false);
    clear();
    posted.unshift(...entries);
    list.replaceChildren(h("h2", null, t("post.done")), entryTable(posted));
    announce(t("post.booked", { quantity: decimal(entries[0].quantity), unit: entries[0].unit, sku: entries[0].sku }));
    said.replaceChildren(notice("good", t("post.booked", { quantity: decimal(entries[0].quantity, { signDisplay: "exceptZero" }), unit: entries[0].unit, sku: entries[0].sku })));
    item = null;
    quantity = "";
    chosen.textContent = "";
    ["item", "quantity", "unit_cost"].forEach((name) => { if (fields[name]) { control(name).value = ""; } });
    control("unit").replaceChildren();
    control("item").focus();
  }

  function refused(error) {
    posting = openPosting();
    freeze(false);
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

  // It may have been booked. The same with the same key is booked at most once, so nothing may change before that.
  function lost(sent, reason) {
    const again = h("button", { type: "button", class: "primary", onclick: () => resend(sent) }, t("post.again"));
    said.replaceChildren(notice("bad", h("p", null, wordsOf(reason)), h("p", null, t("post.lost")),
      h("p", null, summary(sent.body)), again));
    again.focus();
    addEventListener("online", () => resend(sent), { once: true, signal });
  }

  function resend(sent) {
    if (posting.key === sent.key) {
      said.replaceChildren();
      sendNow(sent);
    }
  }

  form.addEventListener("keydown", enter);
  // who leaves a field by Tab has it looked up, too
  ["item", ...places].forEach((name) => control(name).addEventListener("change", () => guarded(() => resolve(name))));
  control("quantity").addEventListener("focus", () => { quantity = value("quantity"); });
  const before = unanswered(me);
  if (before) {
    freeze(true);
    posting = before;
    lost(before, new Error(t("post.unanswered")));
    return;
  }
  if (query.get("sku")) {
    control("item").value = query.get("sku");
    await guarded(() => resolve("item"));
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
