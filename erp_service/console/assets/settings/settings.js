// What the company's owner decides while the service runs, drawn from the API's own list of settings.

import { get, read } from "../core/api.js";
import { h } from "../core/dom.js";
import { bytes, count, day, decimal, moment, typedDecimal } from "../core/format.js";
import { editForm } from "../people/edit.js";
import { input, reason } from "../people/fields.js";
import { may } from "../shell.js";
import { hasText, language, t } from "../core/texts.js";
import { asked, card, field, heading, loading, select } from "../core/ui.js";

const PATH = "/settings";
// each setting stands in the first that fits
const GROUPS = [["company", /^(company|currency|timezone|low)/], ["safety", /^(second|audit)/],
  ["exports", /^(export|signed)/], ["imports", /^import/], ["others", /./]];

export async function view({ main, me, signal }) {
  const place = h("div", { class: "columns" });
  main.append(heading(t("nav.settings")), place);
  await loading(place, () => Promise.all([read(PATH, { signal }), get(`${PATH}/catalogue`, {}, { signal })]), ([known, { items }]) => {
    const left = items.filter(({ name }) => name !== "closed_through");
    const cards = GROUPS.map(([group, pattern]) => {
      const settings = left.filter(({ name }) => pattern.test(name));
      settings.forEach((each) => left.splice(left.indexOf(each), 1));
      return settings.length > 0 && card(t(`settings.${group}`), form(me, known, settings));
    });
    cards.splice(2, 0, card(t("settings.period"), period(me, known)));
    return cards.filter(Boolean);
  }, { signal });
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

const point = () => decimal("0.5")[1];
const local = (text) => text.replace(".", point());

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
  const hint = [usual && t("settings.default", { value: (kindOf(setting).usual ?? String)(usual) }), role === "SUPER_ADMIN" && t("settings.owner")]
    .filter(Boolean).join(" ");
  const disabled = !may(me, role);
  if (choices) {
    const options = choices.map((value) => [value, kind === "choice" && hasText(`role.${value}`) ? t(`role.${value}`) : currency(value)]);
    return field(label, select(name, nullable ? [["", t("settings.nobody")], ...options] : options, "", { disabled }), { hint });
  }
  const zones = name === "timezone" && h("datalist", { id: "zones" }, Intl.supportedValuesOf("timeZone").map((value) => h("option", { value })));
  const made = input(name, label, { disabled, hint, list: zones && "zones", inputmode: kind === "text" ? "text" : "decimal" });
  made.element.append(zones || "");
  return made;
}

function currency(code) {
  return `${code} · ${new Intl.DisplayNames(language(), { type: "currency" }).of(code)}`;
}

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
    label: t("settings.period.set"),
    toValue: (text) => text || null,
    ask: ({ closed_through: last }) => {
      const opens = known.data.closed_through && (!last || last < known.data.closed_through);
      const text = opens ? t("settings.opens") : t("settings.closes", { day: last && long(last) });
      return last === undefined || asked(t("settings.period"), text, t("settings.period.set"));
    },
    done: say,
  }));
}

const long = (date) => day(date, { dateStyle: "long" });
