// What the company's owner decides while the service runs, drawn from the API's own list of settings.

import { get, read } from "../core/api.js";
import { h } from "../core/dom.js";
import { bytes, count, day, decimal, moment, typedDecimal } from "../core/format.js";
import { editForm } from "../people/edit.js";
import { choice, input, reason, roleOptions } from "../people/fields.js";
import { may } from "../shell.js";
import { hasText, language, t } from "../core/texts.js";
import { asked, card, heading, loading } from "../core/ui.js";

const PATH = "/settings";
// each setting stands in the first that fits
const GROUPS = [["nav.company", /^(company|currency|timezone|low)/], ["settings.safety", /^(second|audit)/], ["settings.period", /^closed/],
  ["nav.exports", /^(export|signed)/], ["nav.imports", /^import/], ["settings.others", /./]];
const groupOf = ({ name }) => GROUPS.find(([, pattern]) => pattern.test(name))[0];

export async function view({ main, me, signal }) {
  const place = h("div", { class: "columns" });
  main.append(heading(t("nav.settings")), place);
  const load = () => Promise.all([read(PATH, { signal }), get(`${PATH}/catalogue`, {}, { signal })]);
  await loading(place, load, ([known, { items }]) => GROUPS.map(([group]) => card(t(group),
    group === "settings.period" ? period(me, known) : form(me, known, items.filter((each) => groupOf(each) === group)))), { signal });
}

function form(me, known, settings) {
  const kinds = Object.fromEntries(settings.map((setting) => [setting.name, kindOf(setting)]));
  const fields = Object.fromEntries(settings.map((setting) => [setting.name, fieldOf(me, setting)]));
  const made = editForm(PATH, known, fields, {
    toText: (value, name) => (value === null ? "" : (kinds[name].toText ?? String)(value)),
    toValue: (text, name) => (text === "" ? null : (kinds[name].toValue ?? String)(text)),
  });
  if (!settings.some(({ role }) => may(me, role))) {
    made.querySelector(".actions").remove();
  }
  return made;
}

// with the decimal sign of the language
const local = (text) => text.replace(".", decimal("0.5")[1]);

// Bytes, shown and typed as gigabytes, exactly.
const SIZE = {
  toText: (number) => local(String(number).padStart(10, "0").replace(/(\d{9})$/, ".$1").replace(/\.?0*$/, "")),
  toValue: (text) => {
    const [, whole, fraction = ""] = /^(\d+)(?:\.(\d{1,9}))?$/.exec(typedDecimal(text)) ?? [];
    return whole && Number(whole + fraction.padEnd(9, "0"));
  },
  usual: (text) => bytes(Number(text)),
};
const KINDS = {
  integer: { toValue: (text) => (/^\d+$/.test(text) ? Number(text) : undefined), usual: (text) => count(Number(text)) },
  decimal: { toText: local, toValue: (text) => typedDecimal(text) ?? undefined },
};
const kindOf = ({ name, kind }) => (name.includes("_bytes_") ? SIZE : KINDS[kind] ?? {});

function fieldOf(me, setting) {
  const { name, meaning, kind, choices, nullable, default: usual, role } = setting;
  const label = hasText(`setting.${name}`) ? t(`setting.${name}`) : meaning;
  const hints = [usual && t("settings.default", { value: (kindOf(setting).usual ?? String)(usual) }), role === "SUPER_ADMIN" && t("settings.owner")];
  const more = { disabled: !may(me, role), hint: hints.filter(Boolean).join(" ") };
  if (choices) {
    const options = name === "currency" ? choices.map(currency) : roleOptions(choices);
    return choice(name, label, nullable ? [["", t("settings.nobody")], ...options] : options, "", more);
  }
  const zones = name === "timezone" && h("datalist", { id: "zones" }, Intl.supportedValuesOf("timeZone").map((value) => h("option", { value })));
  const made = input(name, label, { ...more, list: zones && "zones", inputmode: kind === "text" ? "text" : "decimal" });
  made.element.append(zones || "");
  return made;
}

const currency = (code) => [code, `${code} · ${new Intl.DisplayNames(language(), { type: "currency" }).of(code)}`];

// The days to which nothing is posted any more. Only an owner opens them again.
function period(me, known) {
  const state = h("p");
  const say = ({ closed_through: last, closed_at: when }) => {
    state.textContent = last ? t("settings.closed", { day: long(last), when: moment(when) }) : t("settings.open");
  };
  const fields = {
    closed_through: input("closed_through", t("settings.through"), { type: "date", min: may(me, "SUPER_ADMIN") ? null : known.data.closed_through }),
    reason: reason(),
  };
  say(known.data);
  return h("div", { class: "stack" }, state, editForm(PATH, known, fields, {
    toValue: (text) => text || null,
    ask: ({ closed_through: last }) => {
      const opens = known.data.closed_through && (!last || last < known.data.closed_through);
      const text = opens ? t("settings.opens") : t("settings.closes", { day: last && long(last) });
      return last === undefined || asked(t("settings.period"), text, t("people.save"));
    },
    done: say,
  }));
}

const long = (date) => day(date, { dateStyle: "long" });
