// One endpoint: how it fares, what was sent to it, and what can be done with it.

import { copied } from "../core/copied.js";
import { change, get, newKey, post, remove } from "../core/api.js";
import { h } from "../core/dom.js";
import { count, duration, moment } from "../core/format.js";
import { pages } from "../core/pages.js";
import { t } from "../core/texts.js";
import { action, asked, card, empty, every, facts, field, heading, loading, notice, sendingForm, table } from "../core/ui.js";
import { eventsOf, lastTaken, stateOf, typeNames, webhookForm } from "./webhooks.js";

const LIMIT = 25;
const SECONDS = 3;

export async function view({ main, params: [id], signal, navigate }) {
  const place = h("div", { class: "stack" });
  const path = `/webhooks/${id}`;
  main.append(place);
  await loading(place, () => Promise.all([get(path, {}, { signal }), typeNames(signal)]), ([webhook, types]) => {
    const one = watched(path, webhook, signal);
    const again = replaying(one);
    const status = h("div", { class: "sending" }, one.state, actions(one, navigate));
    return [heading(webhook.url), h("div", { class: "columns" }, card(t("status"), status), card(t("hook.replay"), again.form)),
      card(t("hook.deliveries"), deliveries(one, again.from)), card(t("hook.edit"), editing(one, types))];
  }, { signal });
}

// What it is now, looked at again and again. `version` is that of the form: it goes on with what is done here, and with
// nothing else, so that what somebody else writes meanwhile is not lost.
function watched(path, now, signal) {
  const state = h("div");
  const one = { path, state, signal, version: now.version, listeners: [],
    see(webhook) {
      one.now = webhook;
      state.replaceChildren(stateFacts(webhook));
      one.listeners.forEach((each) => each());
    },
    made(webhook) {
      one.version += webhook.version === one.version + 1 ? 1 : 0;
      one.see(webhook);
    },
    change: async (body, version) => one.made((await change(path, body, `"${version}"`)).data) };
  one.see(now);
  // without an answer the next look may have one
  every(SECONDS, () => get(path, {}, { signal }).then(one.see, () => {}), signal);
  return one;
}

function stateFacts(webhook) {
  const blocked = webhook.blocked_position;
  const wait = Math.max(0, Date.parse(webhook.next_attempt_at) - Date.now() || 0);
  return facts([[t("status"), stateOf(webhook)], [t("hook.taken"), lastTaken(webhook)], [t("hook.cursor"), count(webhook.cursor)],
    [t("hook.behind"), count(webhook.lag)], [t("hook.events"), eventsOf(webhook)],
    blocked !== null && [t("hook.blocked"), `${count(blocked)} · ${moment(webhook.blocked_since)}`],
    blocked !== null && webhook.is_active && [t("hook.next"), duration(wait / 1000)],
    webhook.last_error && [t("hook.error"), webhook.last_error]]);
}

function actions(one, navigate) {
  const said = h("div", { class: "sending" });
  const say = (...words) => said.replaceChildren(...words);
  const asking = (name) => ({ confirm: { title: t(`hook.${name}`), text: t(`hook.${name}.text`) } });
  const onOff = h("div");
  const show = () => {
    const label = t(one.now.is_active ? "hook.disable" : "hook.enable");
    if (onOff.textContent !== label) {
      onOff.replaceChildren(action(label, () => one.change({ is_active: !one.now.is_active }, one.now.version)));
    }
  };
  one.listeners.push(show);
  show();
  return [h("div", { class: "actions" }, action(t("hook.test"), async () => say(tested(await post(`${one.path}/test`)))), onOff,
    action(t("hook.rotate"), async () => {
      const { secret, previous_valid_until: until } = await post(`${one.path}/rotate-secret`);
      say(notice("good", t("hook.secret"), copied(secret), t("hook.until", { time: moment(until) })));
      one.made(await get(one.path));
    }, asking("rotate")),
    action(t("hook.delete"), async () => {
      await remove(one.path);
      navigate("/webhooks");
    }, asking("delete"))), said];
}

function tested({ delivered, status, error, milliseconds, response }) {
  return notice(delivered ? "good" : "bad", `${t(delivered ? "hook.good" : "hook.bad")} ${status ?? error} · ${count(milliseconds)} ms`,
    response && h("code", { class: "exact" }, response));
}

function editing(one, types) {
  const said = h("div");
  const say = (kind, words) => said.replaceChildren(notice(kind, words));
  return webhookForm(types, one.now, t("hook.save"), async (body) => {
    said.replaceChildren();
    try {
      await one.change(body, one.version);
      say("good", t("hook.saved"));
    } catch (error) {
      if (error.slug === "stale") {
        one.see(await get(one.path));
        one.version = one.now.version;
        const { url, description, is_active: isActive } = one.now;
        say("", t("hook.meanwhile", { values: [url, description, eventsOf(one.now), t(isActive ? "hook.on" : "hook.off")].filter(Boolean).join(" · ") }));
      }
      throw error;
    }
  }, said);
}

// `from` puts a position into the form, to be looked at before it is sent.
function replaying(one) {
  const control = h("input", { name: "from_position", inputmode: "numeric", autocomplete: "off" });
  const fields = { from_position: field(t("hook.from"), control, { hint: t("hook.from.hint") }) };
  let sent = {};
  const form = sendingForm(fields, t("hook.again"), async () => {
    const text = control.value.trim();
    const position = text === "" ? null : Number(text);
    if (!/^\d*$/.test(text)) {
      fields.from_position.say(t("hook.whole"));
    } else if (await asked(t("hook.asked", { position: count(position ?? one.now.cursor + 1) }), t("hook.asked.text"), t("hook.again"))) {
      sent = sent.text === text ? sent : { text, key: newKey() };
      one.made(await post(`${one.path}/replay`, { from_position: position }, { key: sent.key }));
      sent = {};
    }
  }, fields.from_position.element);
  const from = (position) => {
    control.value = position;
    control.focus();
  };
  return { form, from };
}

// Those that come are shown at once, unless somebody is further down the list or on one of its buttons.
function deliveries(one, from) {
  const place = h("div");
  const path = `${one.path}/deliveries`;
  const query = { limit: LIMIT, signal: one.signal };
  const load = () => get(path, { limit: LIMIT }, { signal: one.signal });
  const box = () => place.querySelector(".scroll");
  let newest;
  const render = (first) => {
    newest = first.items[0]?.id;
    return first.items.length === 0 ? empty(t("audit.none")) : pages(path, first, query, (items) => deliveryTable(items, from));
  };
  one.listeners.push(async () => {
    const first = await load().catch(() => null);
    if (first && first.items[0]?.id !== newest && place.querySelectorAll("tbody tr").length <= LIMIT && !place.querySelector("button:focus")) {
      const focused = box() === document.activeElement;
      const left = box()?.scrollLeft ?? 0;
      place.replaceChildren(render(first));
      box().scrollLeft = left;
      if (focused) {
        box().focus({ preventScroll: true });
      }
    }
  });
  loading(place, load, render, { signal: one.signal });
  return place;
}

function deliveryTable(items, from) {
  const columns = [[t("when"), ""], [t("seals.position"), "number"], [t("hook.event"), ""], [t("hook.attempt"), "number"],
    [t("hook.answer"), ""], [t("hook.said"), "wide"], [t("hook.here"), ""]];
  return table(t("hook.deliveries"), columns, items.map(({ at, position, type, attempt, status, error, milliseconds, response }) => [
    h("time", { datetime: at, title: at }, moment(at)), count(position), type, attempt,
    [h("span", { class: `state ${status >= 200 && status < 300 ? "running" : "failed"}` }, status ?? error), ` · ${count(milliseconds)} ms`],
    h("span", { class: "exact" }, response),
    h("button", { type: "button", class: "small", "aria-label": `${t("hook.here")}: ${position}`, onclick: () => from(position) }, t("hook.here"))]));
}
