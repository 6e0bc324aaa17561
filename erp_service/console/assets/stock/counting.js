// Counting by scanner and keyboard. Each line is saved as soon as it is counted, and until it is, it is kept.

import { get, newKey, read } from "../core/api.js";
import { announce, h } from "../core/dom.js";
import { asTyped, decimal, moment, sum, typedDecimal, unpacked } from "../core/format.js";
import { t } from "../core/texts.js";
import { card, notice, table } from "../core/ui.js";
import { itemEntry, itemFields } from "./item-entry.js";
import { send, unanswered } from "./pending.js";
import { found } from "./scan.js";

const MOST_TRIES = 10;
const PAUSE_MILLISECONDS = 30;
const SHOWN = 8;

// `path` is that of the count. `elsewhere` gets a location that was scanned; `changed` is called when a line was saved.
export function counting(path, { me, signal, elsewhere, changed }) {
  const said = h("div");
  const sofar = h("p");
  const recent = h("div");
  const fields = itemFields(t("count.blind"));
  const quantity = fields.quantity.control;
  const tick = (name) => h("label", { class: "tick" }, h("input", { type: "checkbox", name }), t(`count.${name}`));
  const [each, replaces] = [tick("each"), tick("replace")];
  const isTicked = (label) => label.firstChild.checked;
  const earlier = h("div", { class: "stack" }, sofar, replaces);
  const button = h("button", { type: "submit", class: "primary" }, t("count.save"));
  const form = h("form", { class: "posting", novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    if (!saving) {
      entry.during(() => entry.guarded(count));
    }
  } });
  const entry = itemEntry(form, fields, { said, signal, enter: count, goOn, onItem,
    onPlace: (place) => elsewhere(place, said), home: () => fields[entry.item === null ? "item" : "quantity"].control });
  // the line that the item has in the count, as it was when the item was scanned
  let seen = null;
  let saving = false;
  let saved = [];
  form.append(h("fieldset", null, h("legend", null, t("post.next")), each, fields.item.element, entry.chosen, earlier,
    h("div", { class: "pair" }, fields.quantity.element, fields.unit.element), button), h("div", { class: "stack" }, said, recent));

  const lineOf = async (sku) => (await get(`${path}/lines`, { sku, limit: 1 }, { signal })).items[0] ?? null;

  async function onItem({ sku }) {
    setSeen(await entry.ask(() => lineOf(sku)));
  }

  function setSeen(line) {
    seen = line;
    earlier.hidden = line === null;
    replaces.firstChild.checked = false;
    sofar.textContent = line === null ? "" : t("count.sofar", wordsOf(line));
  }

  async function goOn() {
    if (isTicked(each)) {
      // one for each scan: whoever else counts this item, it is one more
      await save({ ...entry.item, amount: "1", replaces: false });
    } else {
      quantity.focus();
      quantity.select();
    }
  }

  async function count() {
    if (!(await entry.take())) {
      return;
    }
    const { item } = entry;
    const typed = typedDecimal(quantity.value);
    const pack = item.units.find(({ unit }) => unit === fields.unit.control.value);
    const amount = typed && pack ? unpacked(typed, pack) : typed;
    entry.clear();
    if (amount === null) {
      fields.quantity.say(t(quantity.value.trim() === "" ? "field.needed" : "field.number"));
      quantity.focus();
      return;
    }
    await save({ ...item, amount, replaces: isTicked(replaces), seen: seen?.counted_at ?? null });
  }

  function freeze(frozen) {
    saving = frozen;
    form.querySelectorAll("fieldset input, fieldset select, fieldset button").forEach((one) => { one.disabled = frozen; });
  }

  // `sent` if it was on its way already when this page was loaded again.
  async function save(counted, sent) {
    if (saving) {
      return;
    }
    freeze(true);
    try {
      const body = await sendOne(counted, sent);
      freeze(false);
      if (body) {
        done(counted, body.lines[0].counted);
      }
    } catch (error) {
      freeze(false);
      quantity.select();
      throw error;
    }
  }

  // Returns what was saved, or null if somebody else has counted the item since it was scanned: then that is shown, and
  // Enter adds to it. A count that has changed in between, as by others who count, is read again.
  async function sendOne({ sku, name, unit, amount, replaces: whole, seen: before }, sent) {
    for (let tries = 1; ; tries += 1) {
      // in this order: a line that changes after it was read changes the count after that
      const { etag } = sent ?? await entry.ask(() => read(path, { signal }));
      const line = sent ? null : await entry.ask(() => lineOf(sku));
      if (!sent && before !== undefined && (line?.counted_at ?? null) !== before) {
        await meanwhile(sku, amount, line);
        return null;
      }
      const counted = line && !whole ? sum(line.counted, amount) : amount;
      const next = sent ?? { key: newKey(), path: `${path}/lines`, etag, body: { lines: [{ sku, counted }] },
        line: { sku, name, unit, amount, replaces: whole, seen: before } };
      try {
        await send(path, next, me, said, signal, `${name}: ${decimal(amount)} ${unit}`);
        return next.body;
      } catch (error) {
        if (error.slug !== "stale" || tries === MOST_TRIES) {
          throw error;
        }
        sent = null;
        await new Promise((resolve) => { setTimeout(resolve, PAUSE_MILLISECONDS * tries); });
      }
    }
  }

  async function meanwhile(sku, amount, line) {
    freeze(false);
    const { item } = await entry.ask(() => found(sku, false, signal));
    await entry.set(item);
    quantity.value = asTyped(amount);
    fields.quantity.say(line ? t("count.meanwhile", wordsOf(line)) : t("count.taken"));
    quantity.focus();
    quantity.select();
  }

  function done({ sku, name, unit }, counted) {
    const words = t("count.saved", { name, counted: decimal(counted), unit });
    saved = [[sku, name, decimal(counted), unit], ...saved.filter(([other]) => other !== sku)].slice(0, SHOWN);
    setSeen(null);
    entry.clear();
    said.replaceChildren(notice("good", words));
    announce(words);
    recent.replaceChildren(card(t("count.recent"),
      table(t("count.recent"), [[t("sku"), ""], [t("name"), "wide"], [t("count.lines"), "number"], [t("unit"), ""]], saved)));
    entry.reset();
    changed();
  }

  setSeen(null);
  return {
    form,
    during: (work) => entry.during(() => entry.guarded(work)),
    carry: entry.carry,
    isFilled: () => fields.item.control.value !== "",
    // An item to count again, from what is there already.
    again(sku) {
      fields.item.control.value = sku;
      form.scrollIntoView({ block: "nearest" });
      return entry.during(() => entry.guarded(async () => {
        if (await entry.take()) {
          replaces.firstChild.checked = seen !== null;
          quantity.focus();
        }
      }));
    },
    begin() {
      if (entry.item === null) {
        fields.item.control.focus();
      }
      const sent = unanswered(path, me);
      if (sent) {
        entry.during(() => entry.guarded(() => save(sent.line, sent)));
      }
    },
  };
}

function wordsOf({ counted, unit, user_name: name, counted_at: at }) {
  return { counted: decimal(counted), unit, name: name ?? "–", time: moment(at) };
}
