// A role that must have a second factor sets it up before anything else: password, secret, code, recovery codes.

import { post } from "../core/api.js";
import { h } from "../core/dom.js";
import { Problem, wordsOf } from "../core/problem.js";
import { signOut } from "../core/session.js";
import { preferences } from "../shell.js";
import { t } from "../core/texts.js";
import { field, notice, placeFaults } from "../core/ui.js";

const PATH = "/auth/me/totp";

export function view({ app, done, redraw }) {
  const said = h("div");
  const place = h("div");

  // One step: a field, and what its value is sent to.
  function step(words, one, name, label, send) {
    const button = h("button", { type: "submit", class: "primary" }, label);
    async function submit(event) {
      event.preventDefault();
      if (button.disabled) {
        return;
      }
      one.say("");
      said.replaceChildren();
      button.disabled = true;
      try {
        await send(one.control.value);
      } catch (error) {
        const rest = error instanceof Problem ? placeFaults(error, { [name]: one }) : [];
        if (!(error instanceof Problem) || rest.length || error.fields.size === 0) {
          said.replaceChildren(notice("bad", wordsOf(error)));
        }
      } finally {
        button.disabled = false;
      }
    }
    place.replaceChildren(words, h("form", { onsubmit: submit, novalidate: true }, one.element, button));
    one.control.focus();
  }

  function askPassword() {
    const password = field(t("signin.password"), h("input", { type: "password", autocomplete: "current-password" }));
    step(h("p", null, t("factor.why")), password, "password", t("factor.begin"), async (text) => {
      askCode(await post(PATH, { password: text }));
    });
  }

  function askCode({ secret, uri }) {
    const code = field(t("factor.code"), h("input", { type: "text", autocomplete: "one-time-code", inputmode: "numeric", maxlength: "64" }));
    const shown = h("code", { class: "secret" }, secret.replace(/(.{4})(?=.)/g, "$1 "));
    const words = h("div", { class: "stack" }, h("p", null, t("factor.secret")), shown, h("p", null, h("a", { href: uri }, t("factor.link"))));
    step(words, code, "code", t("factor.confirm"), async (text) => {
      showCodes((await post(`${PATH}/confirm`, { code: text })).recovery_codes);
    });
  }

  function showCodes(codes) {
    const go = h("button", { type: "button", class: "primary", onclick: done }, t("factor.written"));
    place.replaceChildren(h("div", { class: "stack" }, h("p", null, t("factor.codes")),
      h("ul", { class: "codes" }, codes.map((code) => h("li", null, h("code", null, code)))), go));
    go.focus();
  }

  const leave = () => signOut().catch((error) => said.replaceChildren(notice("bad", wordsOf(error))));
  app.replaceChildren(h("main", { class: "narrow" },
    h("div", { class: "brand big" }, "erp_service"),
    h("h1", { tabindex: "-1" }, t("factor.title")), said, place,
    h("div", { class: "below" }, preferences(redraw), h("button", { type: "button", class: "quiet", onclick: leave }, t("signout")))));
  document.title = `${t("factor.title")} · erp_service`;
  askPassword();
}
