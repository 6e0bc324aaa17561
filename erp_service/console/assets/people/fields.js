// Fields by the names that the API has for them, and roles.

import { h } from "../core/dom.js";
import { may } from "../shell.js";
import { t } from "../core/texts.js";
import { field, select } from "../core/ui.js";

export const ROLES = ["VIEWER", "STAFF", "ADMIN", "SUPER_ADMIN"];

// Whether they may change a person of this role, or grant it.
export const reaches = (me, role) => me.role === "SUPER_ADMIN" || !may({ role }, "ADMIN");

export function choice(name, label, options, chosen, { hint, ...more } = {}) {
  return field(label, select(name, options, chosen, more), { hint });
}

export const roleOptions = (roles = ROLES) => roles.map((role) => [role, t(`role.${role}`)]);

export function input(name, label, { hint, ...more } = {}) {
  return field(label, h("input", { name, type: "text", autocomplete: "off", maxlength: "200", ...more }), { hint });
}

export const reason = () => input("reason", t("reason"), { maxlength: "500" });

export const elements = (fields) => Object.values(fields).map(({ element }) => element);

export const values = (fields) => Object.fromEntries(Object.entries(fields).map(([name, { control }]) => [name, control.value.trim()]));

// A form that opens when it is needed.
export function opening(title, form, shown) {
  return h("details", { class: "card" }, h("summary", null, title), h("div", { class: "stack" }, form, shown));
}
