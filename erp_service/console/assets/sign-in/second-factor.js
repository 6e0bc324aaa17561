// A role that must have a second factor sets it up before anything else: password, secret, code, recovery codes.

import { post } from "../core/api.js";
import { h } from "../core/dom.js";
import { wordsOf } from "../core/problem.js";
import { qrCode } from "./qr.js";
import { signOut } from "../core/session.js";
import { preferences } from "../shell.js";
import { t } from "../core/texts.js";
import { field, notice, sendingForm } from "../core/ui.js";

export const TOTP = "/auth/me/totp";

const passwordField = () => field(t("signin.password"), h("input", { type: "password", autocomplete: "current-password" }));
const codeField = (label, more) => field(label,
  h("input", { type: "text", autocomplete: "one-time-code", inputmode: "numeric", maxlength: "64" }), more);

// What shows that it is really them: the password, and the code of the second factor that they have.
export function proof() {
  return { password: passwordField(), code: codeField(t("signin.code"), { hint: t("signin.code.hint") }) };
}

// One step in `place`: `send` gets what was typed, by name.
export function step(place, fields, label, send, ...words) {
  const value = ([name, { control }]) => [name, control.value];
  place.replaceChildren(sendingForm(fields, label, () => send(Object.fromEntries(Object.entries(fields).map(value))),
    words, Object.values(fields).map(({ element }) => element)));
  place.querySelector("input").focus();
}

// Begins with `fields`, those of `proof` for somebody who has a second factor already: it is replaced.
export function enrol(place, done, words, fields = { password: passwordField() }) {
  step(place, fields, t("factor.begin"), async (body) => askCode(place, done, await post(TOTP, body)), h("p", null, words));
}

function askCode(place, done, { secret, uri }) {
  const shown = h("code", { class: "secret" }, secret.replace(/(.{4})(?=.)/g, "$1 "));
  const code = qrCode(uri, t("account.scan"));
  step(place, { code: codeField(t("factor.code")) }, t("factor.confirm"), async (body) => {
    showCodes(place, done, (await post(`${TOTP}/confirm`, body)).recovery_codes);
  }, code && [h("p", null, t("account.scan")), code], h("p", null, t("factor.secret")), shown, h("p", null, h("a", { href: uri }, t("factor.link"))));
}

export function showCodes(place, done, codes) {
  const go = h("button", { type: "button", class: "primary", onclick: done }, t("factor.written"));
  place.replaceChildren(h("div", { class: "stack" }, h("p", null, t("factor.codes")),
    h("ul", { class: "codes" }, codes.map((code) => h("li", null, h("code", null, code)))), h("div", { class: "actions" }, go)));
  go.focus();
}

export function view({ app, done, redraw }) {
  const said = h("div");
  const place = h("div");
  const leave = () => signOut().catch((error) => said.replaceChildren(notice("bad", wordsOf(error))));
  app.replaceChildren(h("main", { class: "narrow" },
    h("div", { class: "brand big" }, "erp_service"),
    h("h1", { tabindex: "-1" }, t("factor.title")), said, place,
    h("div", { class: "below" }, preferences(redraw), h("button", { type: "button", class: "quiet", onclick: leave }, t("signout")))));
  document.title = `${t("factor.title")} · erp_service`;
  enrol(place, done, t("factor.why"));
}
