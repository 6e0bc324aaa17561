// One person: their data, their role, and their access.

import { post, read, remove } from "../core/api.js";
import { announce, h } from "../core/dom.js";
import { editForm } from "./edit.js";
import { choice, elements, input, reaches, reason, roleOptions, ROLES, values } from "./fields.js";
import { moment } from "../core/format.js";
import { newPassword, showSecret } from "./secret.js";
import { address } from "../shell.js";
import { signIns } from "./sign-ins.js";
import { t } from "../core/texts.js";
import { action, asked, card, heading, loading, notice, sendingForm } from "../core/ui.js";

export async function view({ main, me, params: [id], signal }) {
  const place = h("div", { class: "stack" });
  const path = `/users/${id}`;
  const load = () => read(path, { signal });
  const again = async () => {
    await loading(place, load, draw, { signal, quiet: true });
    announce(t("people.saved"));
    place.querySelector("h1")?.focus();
  };

  function draw(known) {
    const person = known.data;
    const own = person.id === me.id;
    const reached = reaches(me, person.role);
    return [
      heading(person.full_name, own && h("a", { class: "button", href: address("/account") }, t("account"))),
      facts(person),
      own || reached ? "" : notice("info", t("people.out")),
      h("div", { class: "columns" },
        reached && h("div", { class: "stack" }, card(t("people.data"), data(path, known, place, own ? me : {})),
          !own && card(t("people.newrole"), role(me, path, person, again))) || "",
        reached && !own && h("div", { class: "stack" }, access(me, path, person, again),
          card(t("signins"), signIns(signal, person.id))) || ""),
    ];
  }

  main.append(place);
  await loading(place, load, draw, { signal });
}

export function facts(person) {
  const fact = ([name, value]) => h("div", null, h("dt", null, t(name)), h("dd", null, value));
  return h("dl", { class: "facts-of" }, [
    ["signin.email", person.email],
    ["people.role", t(`role.${person.role}`)],
    ["status", h("span", { class: person.is_active ? "" : "worry" }, t(person.is_active ? "people.active" : "people.inactive"))],
    ["people.factor", t(person.second_factor ? "people.yes" : "no")],
    ["people.last", person.last_login_at ? moment(person.last_login_at) : t("people.never")],
    ["people.since", moment(person.created_at)],
  ].map(fact));
}

// `me` is told what others call them, if it is them.
function data(path, known, place, me) {
  const fields = { full_name: input("full_name", t("name")), email: input("email", t("signin.email"), { type: "email" }) };
  return editForm(path, known, fields, { done: (person) => {
    Object.assign(me, person);
    place.querySelector("h1").textContent = person.full_name;
    place.querySelector("dl").replaceWith(facts(person));
  } });
}

function role(me, path, person, again) {
  const others = ROLES.filter((each) => each !== person.role && reaches(me, each));
  const fields = { role: choice("role", t("people.role"), roleOptions(others)), reason: reason() };
  return sendingForm(fields, t("people.newrole"), async () => {
    const wanted = values(fields);
    const text = t("people.newrole.ask", { name: person.full_name, role: t(`role.${wanted.role}`) });
    if (await asked(t("people.newrole"), text, t("people.newrole"))) {
      await post(`${path}/role`, wanted);
      await again();
    }
  }, elements(fields));
}

function access(me, path, person, again) {
  const shown = h("div");
  const ask = (name) => ({ title: t(name), text: t(`${name}.ask`, { name: person.full_name }) });
  const act = (name, work) => action(t(name), work, { confirm: ask(name) });
  const owner = me.role === "SUPER_ADMIN";
  const fields = { reason: reason() };
  return card(t("people.access"), h("div", { class: "stack" }, h("div", { class: "actions" },
    person.is_active ? act("people.deactivate", async () => {
      await remove(path);
      await again();
    }) : act("people.reactivate", async () => {
      await post(`${path}/reactivate`);
      await again();
    }),
    owner && act("people.reset", async () => {
      const password = newPassword();
      await post(`${path}/reset-password`, { new_password: password });
      showSecret(shown, t("people.password", { name: person.full_name }), password);
    })), shown,
  owner && person.second_factor && sendingForm(fields, t("people.lost"), async () => {
    const { title, text } = ask("people.lost");
    if (await asked(title, text, title)) {
      await post(`${path}/reset-totp`, values(fields));
      await again();
    }
  }, elements(fields))));
}
