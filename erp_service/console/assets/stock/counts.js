// Counts, and the opening of one.

import { get, newKey, post } from "../core/api.js";
import { h } from "../core/dom.js";
import { moment } from "../core/format.js";
import { pages } from "../core/pages.js";
import { address } from "../shell.js";
import { t } from "../core/texts.js";
import { asked, card, empty, every, field, heading, loading, sendingForm, table } from "../core/ui.js";

export const PATH = "/inventory/counts";
const SECONDS = 15;
const LIMIT = 50;
const STATES = ["OPEN", "POSTED", "CANCELED"];

export async function view({ main, query, signal, navigate }) {
  const place = h("div");
  const shown = STATES.find((state) => state === query.get("status")) ?? "OPEN";
  const filter = { status: shown, limit: LIMIT, signal };
  const list = (quiet) => loading(place, () => get(PATH, { status: shown, limit: LIMIT }, { signal }), (first) =>
    (first.items.length === 0 ? empty(t("count.none")) : pages(PATH, first, filter, draw)), { signal, quiet });
  const form = openForm(signal, navigate);
  main.append(heading(t("nav.counts")), card(t("count.open"), form),
    h("nav", { class: "tabs", "aria-label": t("status") }, STATES.map((state) =>
      h("a", { href: `${address("/stock/counts")}?status=${state}`, "aria-current": state === shown && "page" }, t(`count.${state}`)))), place);
  form.querySelector("input").focus();
  every(SECONDS, () => place.contains(document.activeElement) || place.querySelectorAll("tbody tr").length > LIMIT || list(true), signal);
  await list();
}

function openForm(signal, navigate) {
  const known = h("datalist", { id: "count-locations" });
  const text = (name, more) => h("input", { type: "text", name, autocomplete: "off", spellcheck: "false", maxlength: "100", ...more });
  const fields = {
    location: field(t("location"), text("location", { list: known.id, required: true }), { hint: t("count.open.hint") }),
    reference_no: field(t("reference"), text("reference_no")),
  };
  get("/inventory/locations", { sort: "code", limit: 500 }, { signal }).then(({ items }) =>
    known.append(...items.map(({ code, name }) => h("option", { value: code }, name))), () => {});
  let key = newKey();
  return sendingForm(fields, t("count.open"), async () => {
    const [location, reference] = Object.values(fields).map(({ control }) => control.value.trim());
    if (location === "") {
      fields.location.say(t("field.needed"));
      fields.location.control.focus();
      return;
    }
    const there = await openAt(location, signal);
    if (there && !await asked(t("count.there"), wordsOf(there), t("count.another"))) {
      return;
    }
    try {
      const { id } = await post(PATH, { location, reference_no: reference || null }, { key, signal });
      navigate(`/stock/counts/${id}`);
    } catch (error) {
      key = error.isUncertain === false ? newKey() : key;
      throw error;
    }
  }, h("div", { class: "columns" }, Object.values(fields).map(({ element }) => element)), known);
}

// The newest count that is open at a location, if there is one.
export async function openAt(location, signal) {
  return (await get(PATH, { location, status: "OPEN", limit: 1 }, { signal })).items[0];
}

const wordsOf = ({ location, user_name: name, created_at: at }) => t("count.there.text", { location, name: name ?? "–", time: moment(at) });

function draw(counts) {
  const columns = [[t("location"), ""], [t("reference"), "wide"], [t("count.by"), ""], [t("count.opened"), ""], [t("count.ended"), ""]];
  return table(t("nav.counts"), columns, counts.map((count) => [h("a", { href: address(`/stock/counts/${count.id}`) }, count.location),
    [count.reference_no, count.notes].filter(Boolean).join(" · "), count.user_name ?? "–", moment(count.created_at),
    count.ended_at === null ? "–" : moment(count.ended_at)]));
}
