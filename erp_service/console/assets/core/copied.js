// A text to take away, with a button that copies it.

import { announce, h } from "./dom.js";
import { t } from "./texts.js";

export function copied(text, ...more) {
  const code = h("code", { class: "secret" }, text);
  const button = h("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = t("copied");
    } catch {
      // over plain HTTP browsers give no clipboard
      getSelection().selectAllChildren(code);
      button.textContent = t("marked");
    }
    announce(button.textContent);
  } }, t("copy"));
  return [code, h("div", { class: "actions" }, button, more)];
}
