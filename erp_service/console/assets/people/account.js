// What everybody may do with their own account.

import { get, post, remove } from "../core/api.js";
import { h } from "../core/dom.js";
import { moment } from "../core/format.js";
import { facts } from "./person.js";
import { address } from "../shell.js";
import { enrol, proof, showCodes, step, TOTP } from "../sign-in/second-factor.js";
import { passwordForm } from "../sign-in/password.js";
import { signIns } from "./sign-ins.js";
import { t } from "../core/texts.js";
import { card, heading, loading, notice } from "../core/ui.js";

export async function view({ main, me, signal }) {
  const devices = h("div", null, signIns(signal));
  const password = h("div", { class: "stack" });

  // a new password or second factor ends all other sign-ins
  async function changed() {
    devices.replaceChildren(signIns(signal));
    Object.assign(me, await get("/auth/me", {}, { signal }));
    main.querySelector("dl").replaceWith(facts(me));
  }

  function draw(...said) {
    password.replaceChildren(...said, passwordForm(() => {
      draw(notice("good", t("account.password.done")));
      return changed();
    }));
  }

  draw();
  const edit = me.role === "SUPER_ADMIN" && h("a", { class: "button", href: address(`/people/${me.id}`) }, t("people.data"));
  main.append(heading(t("account"), edit), facts(me),
    h("div", { class: "columns" }, card(t("password.change"), password), card(t("people.factor"), factor(changed, signal))),
    card(t("signins"), devices));
}

function factor(changed, signal) {
  const place = h("div");
  const load = () => get(TOTP, {}, { signal });
  const again = () => Promise.all([changed(), loading(place, load, draw, { signal, quiet: true })]);

  function draw({ since, recovery_codes: left, required }) {
    const steps = h("div");
    const button = (name, onclick) => h("button", { type: "button", onclick }, t(name));
    const remover = () => step(steps, proof(), t("account.remove"), async (body) => {
      await remove(TOTP, body);
      await again();
    }, h("p", null, t("account.remove.why")));
    const renew = () => step(steps, proof(), t("account.codes"), async (body) => {
      showCodes(steps, again, (await post(`${TOTP}/recovery-codes`, body)).recovery_codes);
    }, h("p", null, t("account.codes.why")));
    const words = since ? t("account.factor", { when: moment(since), left }) : t("account.none");
    return h("div", { class: "stack" }, h("p", null, words), h("div", { class: "actions" }, since
      ? [button("account.codes", renew), button("account.replace", () => enrol(steps, again, t("account.replace.why"), proof())),
        !required && button("account.remove", remover)]
      : button("factor.title", () => enrol(steps, again, t("account.begin")))), steps);
  }

  loading(place, load, draw, { signal });
  return place;
}
