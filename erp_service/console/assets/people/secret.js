// What is shown once: a password that somebody else is to change, or a key.

import { announce, h } from "../core/dom.js";
import { t } from "../core/texts.js";
import { notice } from "../core/ui.js";

const LETTERS = "0123456789abcdefghjkmnpqrstvwxyz";

// 100 random bits, without letters that look like others.
export function newPassword() {
  const letters = Array.from(crypto.getRandomValues(new Uint8Array(20)), (byte) => LETTERS[byte % 32]);
  return letters.join("").replace(/.{5}(?=.)/g, "$&-");
}

// Shows it in `place` with `words`, until another one is shown or the view is left.
export function showSecret(place, words, secret) {
  const code = h("code", { class: "secret" }, secret);
  const button = h("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(secret);
      button.textContent = t("people.copied");
    } catch {
      // over plain HTTP a page may not copy
      getSelection().selectAllChildren(code);
      button.textContent = t("people.marked");
    }
    announce(button.textContent);
  } }, t("people.copy"));
  place.replaceChildren(notice("good", h("p", null, words), code, button));
  button.focus();
}
