// A password that somebody else has set must be changed before anything else.

import { put } from "../core/api.js";
import { h } from "../core/dom.js";
import { Problem, wordsOf } from "../core/problem.js";
import { signOut, takeToken } from "../core/session.js";
import { preferences } from "../shell.js";
import { t } from "../core/texts.js";
import { field, notice, placeFaults } from "../core/ui.js";

export function view({ app, done, redraw }) {
  const old = field(t("password.old"), h("input", { type: "password", autocomplete: "current-password" }));
  const fresh = field(t("password.new"), h("input", { type: "password", autocomplete: "new-password" }),
    { hint: t("password.hint") });
  const button = h("button", { type: "submit", class: "primary" }, t("password.change"));
  const said = h("div");

  async function submit(event) {
    event.preventDefault();
    if (button.disabled) {
      return;
    }
    [old, fresh].forEach((each) => each.say(""));
    said.replaceChildren();
    button.disabled = true;
    try {
      const pair = await put("/auth/me/password", { old_password: old.control.value, new_password: fresh.control.value });
      takeToken(pair.access_token);
      await done();
    } catch (error) {
      const rest = error instanceof Problem ? placeFaults(error, { old_password: old, new_password: fresh }) : [];
      if (!(error instanceof Problem) || rest.length || error.fields.size === 0) {
        said.replaceChildren(notice("bad", wordsOf(error), rest.map((text) => h("p", null, text))));
      }
    } finally {
      button.disabled = false;
    }
  }

  app.replaceChildren(h("main", { class: "narrow" },
    h("div", { class: "brand big" }, "erp_service"),
    h("h1", { tabindex: "-1" }, t("password.title")), h("p", null, t("password.why")), said,
    h("form", { onsubmit: submit, novalidate: true }, old.element, fresh.element, button),
    h("div", { class: "below" }, preferences(redraw),
      h("button", { type: "button", class: "quiet", onclick: () => signOut().catch((error) => said.replaceChildren(notice("bad", wordsOf(error)))) }, t("signout")))));
  document.title = `${t("password.title")} · erp_service`;
  old.control.focus();
}
