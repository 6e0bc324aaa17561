// The ledger, filtered. The address keeps the filters, so that it can be sent to somebody.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { entryTable } from "./entries.js";
import { pages } from "../core/pages.js";
import { Problem } from "../core/problem.js";
import { may } from "../shell.js";
import { t } from "../core/texts.js";
import { empty, field, heading, loading } from "../core/ui.js";

const PATH = "/inventory/stock/ledger";
const KINDS = ["IN", "OUT", "TRANSFER_IN", "TRANSFER_OUT", "ADJUSTMENT"];
const LIMIT = 50;

export async function view({ main, me, query, signal, navigate }) {
  const text = (name, label, type = "text") =>
    field(label, h("input", { type, name, value: query.get(name) ?? "", autocomplete: "off", spellcheck: "false" }));
  const kind = h("select", { name: "transaction_type" }, h("option", { value: "" }, t("all")),
    KINDS.map((each) => h("option", { value: each, selected: each === query.get("transaction_type") }, t(`entry.${each}`))));
  const fields = {
    sku: text("sku", t("sku")),
    location: text("location", t("location")),
    transaction_type: field(t("kind"), kind),
    reference_no: text("reference_no", t("reference")),
    from: text("from", t("from"), "date"),
    to: text("to", t("to"), "date"),
  };
  const place = h("div");
  const filter = Object.fromEntries(Object.keys(fields).map((name) => [name, query.get(name)]).filter(([, value]) => value));

  function submit(event) {
    event.preventDefault();
    const wanted = new URLSearchParams(Object.entries(fields).map(([name, { control }]) => [name, control.value.trim()])
      .filter(([, value]) => value));
    navigate(`/stock/ledger${wanted.size ? `?${wanted}` : ""}`);
  }

  main.append(heading(t("ledger")),
    h("form", { class: "filters", onsubmit: submit, novalidate: true }, Object.values(fields).map(({ element }) => element),
      h("button", { type: "submit" }, t("filter"))), place);
  await loading(place, async () => {
    try {
      return await get(PATH, { ...filter, limit: LIMIT }, { signal });
    } catch (error) {
      // each at the field that it names
      for (const { parameter, detail } of error instanceof Problem ? error.document.errors ?? [] : []) {
        fields[parameter]?.say(detail);
      }
      throw error;
    }
  }, (first) => (first.items.length === 0 ? empty(t("ledger.none"))
    : pages(PATH, first, { ...filter, limit: LIMIT, signal }, (entries) => entryTable(entries, { open: may(me, "STAFF") }))), { signal });
}
