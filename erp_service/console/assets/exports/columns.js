// The columns of an export, in their order: some, or all.

import { h } from "../core/dom.js";
import { t } from "../core/texts.js";

export function columnList(columns, chosen) {
  const names = columns.map(({ name }) => name);
  const rank = (name) => [...chosen ?? [], ...names].indexOf(name);
  const list = h("ul", { class: "picked" }, [...columns].sort((a, b) => rank(a.name) - rank(b.name)).map(row));
  const control = h("summary");
  const fault = h("p", { class: "fault" });
  const boxes = () => [...list.querySelectorAll("input")];
  const picked = () => boxes().filter(({ checked }) => checked).map(({ value }) => value);

  function row({ name, description }) {
    const box = h("input", { type: "checkbox", value: name, checked: !chosen || chosen.includes(name) });
    const up = h("button", { type: "button", class: "quiet", "aria-label": t("columns.up", { name }), onclick: () => {
      element.previousElementSibling?.before(element);
      up.focus();
      changed();
    } }, "↑");
    const element = h("li", null, h("label", { title: description }, box, name), up);
    return element;
  }

  const count = () => { control.textContent = t("columns", { picked: picked().length, all: names.length }); };
  const changed = () => list.dispatchEvent(new Event("input", { bubbles: true }));
  const all = (checked, label) => h("button", { type: "button", class: "small", onclick: () => {
    boxes().forEach((box) => { box.checked = checked; });
    changed();
  } }, label);

  list.addEventListener("input", count);
  count();
  const buttons = h("div", { class: "actions" }, all(true, t("all")), all(false, t("columns.none")));
  return { control, element: h("details", { open: Boolean(chosen) }, control, buttons, list, fault),
    say(text) { fault.textContent = text && (picked().length ? text : t("field.needed")); }, value: () => (picked().join() === names.join() ? undefined : picked()) };
}
