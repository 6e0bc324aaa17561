// Signing in, with the second factor if the user has one.

import { h } from "../core/dom.js";
import { Problem, wordsOf } from "../core/problem.js";
import { signIn } from "../core/session.js";
import { preferences } from "../shell.js";
import { t } from "../core/texts.js";
import { field, notice, placeFaults } from "../core/ui.js";

export function view({ app, message, done, redraw }) {
  const email = field(t("signin.email"), h("input", { type: "email", name: "username", required: true, autocomplete: "username" }));
  const password = field(t("signin.password"),
    h("input", { type: "password", name: "password", required: true, autocomplete: "current-password" }));
  const code = field(t("signin.code"), h("input", { type: "text", name: "totp", autocomplete: "one-time-code",
    inputmode: "numeric", maxlength: "64", spellcheck: "false" }), { hint: t("signin.code.hint") });
  code.element.hidden = true;
  const button = h("button", { type: "submit", class: "primary" }, t("signin"));
  const said = h("div", null, message && notice("info", message));

  async function submit(event) {
    event.preventDefault();
    if (button.disabled) {
      return;
    }
    [email, password, code].forEach((each) => each.say(""));
    if (!email.control.value.trim() || !password.control.value) {
      const missing = email.control.value.trim() ? password : email;
      missing.say(t("field.needed"));
      missing.control.focus();
      return;
    }
    button.disabled = true;
    said.replaceChildren();
    try {
      await signIn(email.control.value, password.control.value, code.control.value.trim());
      await done();
    } catch (error) {
      refused(error);
    } finally {
      button.disabled = false;
    }
  }

  function refused(error) {
    const slug = error instanceof Problem ? error.slug : "";
    if (slug === "second-factor-needed" || slug === "second-factor-wrong") {
      code.element.hidden = false;
      code.say(slug === "second-factor-wrong" ? error.title : "");
      code.control.select();
      code.control.focus();
      return;
    }
    if (slug === "invalid" && placeFaults(error, { username: email, password, totp: code }).length === 0) {
      return;
    }
    said.replaceChildren(notice("bad", wordsOf(error)));
    if (slug === "wrong-credentials") {
      password.control.select();
      password.control.focus();
    }
  }

  app.replaceChildren(h("main", { class: "narrow" },
    h("div", { class: "brand big" }, "erp_service"),
    h("h1", { tabindex: "-1" }, t("signin.title")), said,
    h("form", { onsubmit: submit, novalidate: true }, email.element, password.element, code.element, button),
    h("div", { class: "below" }, preferences(redraw))));
  document.title = `${t("signin.title")} · erp_service`;
  email.control.focus();
}
