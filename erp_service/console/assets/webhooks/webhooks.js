// The endpoints that are told of events.

import { copied } from "../core/copied.js";
import { wordOf, wordsOf } from "../audit/words.js";
import { get, post } from "../core/api.js";
import { h } from "../core/dom.js";
import { moment } from "../core/format.js";
import { address } from "../shell.js";
import { t } from "../core/texts.js";
import { card, empty, every, field, heading, loading, notice, sendingForm, table } from "../core/ui.js";

const SECONDS = 10;

export async function view({ main, signal }) {
  const made = h("div");
  const place = h("div");
  const list = (quiet) => loading(place, () => get("/webhooks", { limit: 100 }, { signal }), listed, { signal, quiet });
  main.append(heading(t("nav.webhooks"), h("button", { type: "button", class: "primary", onclick: () => creating(made, signal, list) }, t("hook.new"))),
    made, place);
  every(SECONDS, () => place.querySelector(":focus") ?? list(true), signal);
  await list();
}

const link = (id, text) => h("a", { href: address(`/webhooks/${id}`) }, text);

function listed({ items }) {
  const columns = [[t("hook.url"), "wide"], [t("hook.events"), "wide"], [t("status"), ""], [t("hook.taken"), ""]];
  return items.length === 0 ? empty(t("audit.none")) : table(t("nav.webhooks"), columns, items.map((webhook) => [
    [link(webhook.id, webhook.url), h("br"), h("small", null, webhook.description)], eventsOf(webhook), stateOf(webhook), lastTaken(webhook)]));
}

export const eventsOf = ({ types }) => types?.join(", ") ?? t("all");
export const lastTaken = ({ last_success_at: at }) => (at === null ? "–" : moment(at));

export function stateOf({ is_active: isActive, disabled_because: because, failures }) {
  const bad = because ?? (isActive && failures > 0 && "refused");
  return h("span", { class: `state ${bad ? "failed" : isActive ? "running" : ""}` }, t(`hook.${bad || (isActive ? "on" : "off")}`, { failures }));
}

export async function typeNames(signal) {
  return (await get("/events/types", {}, { signal })).items.map(({ name }) => name);
}

async function creating(place, signal, list) {
  await loading(place, () => typeNames(signal), (types) => {
    const present = h("div");
    return card(t("hook.new"), webhookForm(types, { types: [] }, t("hook.create"), async (body) => {
      present.replaceChildren();
      const { id, url, secret } = await post("/webhooks", body).catch((error) => {
        // also after an answer that was lost
        const other = error.document?.webhook_id;
        present.append(other ? link(other, t("hook.open")) : "");
        throw error;
      });
      place.replaceChildren(notice("good", h("p", null, url), t("hook.secret"), copied(secret, h("a", { class: "button", href: address(`/webhooks/${id}`) }, t("hook.open")))));
      list(true);
    }, present));
  }, { signal });
  place.querySelector("input")?.focus();
}

// `work` gets what the form holds; `types` are the names of all types of events.
export function webhookForm(types, webhook, label, work, ...more) {
  const text = (name) => h("input", { name, value: webhook[name] ?? "", autocomplete: "off", spellcheck: "false" });
  const tick = (name, words, checked) => h("label", null, h("input", { type: "checkbox", name, checked }), words);
  const all = tick("all", t("hook.everything"), webhook.types === null);
  const kinds = [...new Set(types.map((name) => name.split(".")[0]))].sort((a, b) => wordsOf(a).localeCompare(wordsOf(b)));
  const some = h("div", { class: "types" }, kinds.map((kind) => h("fieldset", null, h("legend", null, wordsOf(kind)),
    types.filter((name) => name.startsWith(`${kind}.`)).map((name) => tick(name, wordOf(name.split(".")[1]), webhook.types?.includes(name))))));
  const show = () => { some.hidden = all.firstChild.checked; };
  all.firstChild.addEventListener("change", show);
  show();
  const fields = { url: field(t("hook.url"), text("url")), description: field(t("hook.description"), text("description")),
    types: field(t("hook.events"), h("div", { role: "group", class: "choose", tabindex: "-1" }, all, some)) };
  return sendingForm(fields, label, async () => {
    const chosen = [...some.querySelectorAll(":checked")].map(({ name }) => name);
    const value = (name) => fields[name].control.value.trim();
    await work({ url: value("url"), description: value("description") || null, types: all.firstChild.checked ? null : chosen });
  }, h("div", { class: "columns" }, fields.url.element, fields.description.element), fields.types.element, more);
}
