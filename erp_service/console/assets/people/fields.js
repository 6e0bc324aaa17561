// Fields by the names that the API has for them.

import { h } from "../core/dom.js";
import { t } from "../core/texts.js";
import { field } from "../core/ui.js";

export function input(name, label, { hint, ...more } = {}) {
  return field(label, h("input", { name, type: "text", autocomplete: "off", maxlength: "200", ...more }), { hint });
}

export const reason = () => input("reason", t("reason"), { maxlength: "500" });

export const elements = (fields) => Object.values(fields).map(({ element }) => element);

export const values = (fields) => Object.fromEntries(Object.entries(fields).map(([name, { control }]) => [name, control.value.trim()]));
