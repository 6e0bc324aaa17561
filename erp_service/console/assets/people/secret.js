// What is shown once: a password that somebody else is to change, or a key.

import { copied } from "../core/copied.js";
import { h } from "../core/dom.js";
import { notice } from "../core/ui.js";

const LETTERS = "0123456789abcdefghjkmnpqrstvwxyz";

// 100 random bits, without letters that look like others.
export function newPassword() {
  const letters = Array.from(crypto.getRandomValues(new Uint8Array(20)), (byte) => LETTERS[byte % 32]);
  return letters.join("").replace(/.{5}(?=.)/g, "$&-");
}

// Shows it in `place` with `words`, until another one is shown or the view is left.
export function showSecret(place, words, secret) {
  place.replaceChildren(notice("good", h("p", null, words), copied(secret)));
  place.querySelector("button").focus();
}
