// A text to take away, with a button that copies it.

import { h } from "../core/dom.js";
import { t } from "../core/texts.js";

export function copied(text, ...more) {
  const code = h("code", { class: "secret" }, text);
  const button = h("button", { type: "button", onclick: async () => {
    // selected, since over plain HTTP browsers give no clipboard
    getSelection().selectAllChildren(code);
    await navigator.clipboard?.writeText(text);
    button.textContent = t("audit.copied");
  } }, t("audit.copy"));
  return [code, h("div", { class: "actions" }, button, more)];
}
