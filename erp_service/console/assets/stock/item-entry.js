// An item and its quantity, scanned and typed: the same wherever something is posted or counted.

import { announce, h } from "../core/dom.js";
import { asTyped, sum, typedDecimal } from "../core/format.js";
import { wordsOf } from "../core/problem.js";
import { t } from "../core/texts.js";
import { field, notice } from "../core/ui.js";
import { persistently } from "./pending.js";
import { found, keysOf, looksScanned, offers, takenApart } from "./scan.js";

export function input(name, more) {
  return h("input", { type: "text", name, autocomplete: "off", spellcheck: "false", maxlength: "100", ...more });
}

export function itemFields(ofItem, ofQuantity, inputmode = "decimal") {
  return {
    item: field(t("post.item"), input("item"), { hint: ofItem }),
    quantity: field(t("quantity"), input("quantity", { inputmode }), { hint: ofQuantity }),
    unit: field(t("unit"), h("select", { name: "unit" })),
  };
}

// `fields` are all of the form. `enter` is Enter in any other field than that of the item, `goOn` gets what comes after
// a field, `onPlace` a location that was scanned in place of an item, and `onItem` an item before it is shown.
export function itemEntry(form, fields, { said, signal, home, enter, goOn, onPlace, onItem }) {
  const [code, quantity, unit] = ["item", "quantity", "unit"].map((name) => fields[name].control);
  const chosen = h("p", { class: "chosen" });
  // how often the item was scanned again, while nobody has said what that means
  let more = 0;
  // codes of what comes after this item: its quantity was not there yet when they were scanned
  const later = [];
  let unknown = null;
  const entry = { item: null, chosen, ask, guarded, clear, set, reset, take };
  const keys = keysOf(form, { signal, home, enter: (target) => guarded(() => entered(target)) });
  Object.assign(entry, { ...keys, offer });

  // As often as it takes to get an answer.
  function ask(work) {
    return persistently(work, said, signal, t("again"));
  }

  async function guarded(work) {
    try {
      return await work();
    } catch (error) {
      if (error.name !== "AbortError") {
        said.replaceChildren(notice("bad", wordsOf(error)));
      }
      return false;
    }
  }

  function clear() {
    more = 0;
    Object.values(fields).forEach((each) => each.say(""));
    said.replaceChildren();
  }

  async function set(one) {
    unknown = null;
    await onItem(one);
    entry.item = one;
    code.value = one.sku;
    chosen.textContent = one.name;
    unit.replaceChildren(...[one, ...one.units].map((each) => h("option", { value: each.unit }, each.unit)));
    announce(one.name);
  }

  // For the next item, which may have been scanned already.
  function reset() {
    entry.item = null;
    chosen.textContent = code.value = quantity.value = "";
    unit.replaceChildren();
    code.focus();
    keys.type(later.splice(0).map((each) => `${each}\n`).join(""));
  }

  // Whether the code in the field of the item is one.
  async function take() {
    const words = code.value.trim();
    if (words === "" || entry.item?.sku === words || words === unknown) {
      return words !== "" && words !== unknown;
    }
    clear();
    unknown = null;
    const { item, place } = await ask(() => found(words, false, signal));
    if (item) {
      await set(item);
    } else if (place) {
      code.value = entry.item?.sku ?? "";
      code.select();
      await onPlace(place);
    } else {
      await offer("item", words, set);
    }
    return Boolean(item);
  }

  // Nothing has exactly this code: what is like it, to choose from.
  async function offer(name, words, choose) {
    const like = await ask(() => offers(words, name !== "item", (one) => keys.during(() => guarded(async () => {
      clear();
      await choose(one);
      await goOn(name);
    })), signal));
    fields[name].say(t(like ? "scan.choose" : "scan.unknown", { code: words }));
    if (like) {
      unknown = words;
      said.replaceChildren(like);
      like.querySelector("button").focus();
    } else {
      fields[name].control.select();
    }
  }

  async function entered(target) {
    if (target === code) {
      await (await take() && goOn("item"));
    } else if (target === quantity && looksScanned(quantity.value.trim(), entry.item)) {
      await scannedInto(quantity.value.trim());
    } else {
      await enter(target);
    }
  }

  // A scanner that types into the quantity must not become one: the same item once more is asked about, and anything
  // else waits until this item is done.
  async function scannedInto(text) {
    const { before, code: scanned, item, place } = await ask(() => takenApart(text, entry.item, signal));
    quantity.value = before;
    if (entry.item === null) {
      code.value = scanned;
      await entered(code);
    } else if (item?.sku === entry.item.sku) {
      more += 1;
      askOnceMore(before, more);
    } else if (item || place) {
      later.push(scanned);
      fields.quantity.say(t("scan.later", { name: (item ?? place).name }));
    } else {
      fields.quantity.say(t("scan.unknown", { code: scanned }));
    }
  }

  function askOnceMore(before, times) {
    const number = before.trim() === "" ? "1" : typedDecimal(before);
    const all = number === null ? before : asTyped(sum(number, (number.startsWith("-") ? "-" : "") + times));
    const answer = (label, text, kind) => h("button", { type: "button", class: kind, onclick: () => {
      clear();
      quantity.value = text;
      quantity.focus();
    } }, label);
    const yes = answer(times === 1 ? t("scan.onemore") : t("scan.more", { times }), all, "primary");
    said.replaceChildren(notice("info", h("p", null, t("scan.again", { name: entry.item.name, times })),
      h("div", { class: "actions" }, yes, answer(t("scan.no"), before))));
    yes.focus();
  }

  // who leaves the field by Tab has it looked up, too
  code.addEventListener("change", () => keys.aside(() => guarded(take)));
  return entry;
}
