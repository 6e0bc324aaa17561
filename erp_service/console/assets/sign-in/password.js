// A password that somebody else has set must be changed before anything else.

import { put } from "../core/api.js";
import { h } from "../core/dom.js";
import { wordsOf } from "../core/problem.js";
import { signOut, takeToken } from "../core/session.js";
import { preferences } from "../shell.js";
import { t } from "../core/texts.js";
import { field, notice, sendingForm } from "../core/ui.js";

export function passwordForm(done) {
  const secret = (label, autocomplete, more) => field(label, h("input", { type: "password", autocomplete }), more);
  const fields = {
    old_password: secret(t("password.old"), "current-password"),
    new_password: secret(t("password.new"), "new-password", { hint: t("password.hint") }),
  };
  return sendingForm(fields, t("password.change"), async () => {
    const body = Object.fromEntries(Object.entries(fields).map(([name, { control }]) => [name, control.value]));
    takeToken((await put("/auth/me/password", body)).access_token);
    await done();
  }, fields.old_password.element, fields.new_password.element);
}

export function view({ app, done, redraw }) {
  const said = h("div");
  const form = passwordForm(done);
  app.replaceChildren(h("main", { class: "narrow" },
    h("div", { class: "brand big" }, "erp_service"),
    h("h1", { tabindex: "-1" }, t("password.title")), h("p", null, t("password.why")), said, form,
    h("div", { class: "below" }, preferences(redraw),
      h("button", { type: "button", class: "quiet", onclick: () => signOut().catch((error) => said.replaceChildren(notice("bad", wordsOf(error)))) }, t("signout")))));
  document.title = `${t("password.title")} · erp_service`;
  form.querySelector("input").focus();
}
