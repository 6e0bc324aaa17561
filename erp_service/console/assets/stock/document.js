// What was posted together, and taking it back: a customer's return, a return to the supplier, or a mistake.

import { get, newKey, post } from "../core/api.js";
import { h } from "../core/dom.js";
import { entryTable } from "./entries.js";
import { decimal, moment, typedDecimal } from "../core/format.js";
import { input } from "./item-entry.js";
import { address, may } from "../shell.js";
import { t } from "../core/texts.js";
import { card, facts, field, heading, loading, sendingForm } from "../core/ui.js";

const MOST_LINES = 100;

export async function view({ main, me, params: [id], signal, navigate }) {
  const place = h("div", { class: "stack" });
  const path = `/inventory/stock/transactions/${id}`;
  const link = (other) => h("a", { href: address(`/stock/ledger/${other}`) }, h("code", null, other.slice(-8)));
  main.append(place);
  await loading(place, () => get(path, {}, { signal }), (document) => [
    heading(`${t("doc")} ${id.slice(-8)}`),
    facts([
      [t("doc.posted"), moment(document.recorded_at)],
      document.reverses && [t("doc.reverses"), link(document.reverses)],
      document.reversed_by.length > 0 && [t("doc.reversed"), document.reversed_by.flatMap((each) => [link(each), " "])],
    ]),
    card(t("ledger"), entryTable(document.entries)),
    may(me, "ADMIN") ? card(t("doc.back"), takeBack(path, linesOf(document.entries), navigate)) : "",
  ], { signal });
}

// Both ends of a transfer are one line, and a settlement has no quantity.
function linesOf(entries) {
  const lines = new Map();
  entries.filter(({ quantity }) => /[1-9]/.test(quantity)).forEach((entry) => lines.has(entry.line) || lines.set(entry.line, entry));
  return [...lines.values()];
}

function takeBack(path, lines, navigate) {
  const fields = { reason: field(t("reason"), input("reason", { maxlength: "500", required: true })) };
  const quantities = lines.length > MOST_LINES ? [] : lines.map(({ line, sku, quantity, unit }) => ({ line,
    of: field(t("doc.quantity", { sku }), input(`line_${line}`, { inputmode: "decimal", placeholder: `${decimal(quantity.replace("-", ""))} ${unit}` })) }));
  let sent = {};

  async function reverse() {
    const typed = quantities.filter(({ of }) => of.control.value.trim() !== "");
    const bad = typed.find(({ of }) => typedDecimal(of.control.value) === null);
    const missing = fields.reason.control.value.trim() === "" && fields.reason;
    if (bad || missing) {
      (bad?.of ?? missing).say(t(bad ? "field.number" : "field.needed"));
      (bad?.of ?? missing).control.focus();
      return;
    }
    // a fault of a line is named by its place in what was sent
    Object.keys(fields).filter((name) => name !== "reason").forEach((name) => delete fields[name]);
    typed.forEach(({ of }, index) => { fields[`lines/${index}/quantity`] = of; });
    const body = { reason: fields.reason.control.value.trim(),
      ...(typed.length && { lines: typed.map(({ line, of }) => ({ line, quantity: typedDecimal(of.control.value) })) }) };
    const text = JSON.stringify(body);
    // the same once more, after an answer that was lost, is booked once
    sent = sent.text === text ? sent : { text, key: newKey() };
    const reversal = await post(`${path}/reverse`, body, { key: sent.key });
    navigate(`/stock/ledger/${reversal.transaction_id}`);
  }

  return sendingForm(fields, t("doc.reverse"), reverse, h("p", { class: "hint" }, t("doc.hint")),
    h("div", { class: "filters" }, quantities.map(({ of }) => of.element)), fields.reason.element);
}
