// Who may sign in, and a new person.

import { get, newKey, post } from "../core/api.js";
import { h } from "../core/dom.js";
import { choice, elements, input, opening, reaches, roleOptions, ROLES, values } from "./fields.js";
import { moment } from "../core/format.js";
import { pages } from "../core/pages.js";
import { address } from "../shell.js";
import { newPassword, showSecret } from "./secret.js";
import { t } from "../core/texts.js";
import { empty, heading, loading, sendingForm, table } from "../core/ui.js";

const PATH = "/users";

export async function view({ main, me, query, signal, navigate }) {
  const filter = { ...Object.fromEntries(query), sort: "email", limit: 50 };
  const place = h("div");
  const load = () => get(PATH, filter, { signal });
  const draw = (first) => (first.items.length ? pages(PATH, first, { ...filter, signal }, list) : empty(t("people.none")));
  main.append(heading(t("nav.people")),
    newPerson(me, () => loading(place, load, draw, { signal, quiet: true })), filters(query, navigate), place);
  await loading(place, load, draw, { signal });
}

function filters(query, navigate) {
  const chosen = (name) => query.get(name) ?? "";
  const fields = {
    q: input("q", t("people.data"), { type: "search", value: chosen("q") }),
    role: choice("role", t("people.role"), [["", t("all")], ...roleOptions()], chosen("role")),
    is_active: choice("is_active", t("status"),
      [["", t("all")], ["true", t("people.active")], ["false", t("people.inactive")]], chosen("is_active")),
  };
  return h("form", { class: "filters", novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    navigate(`/people?${new URLSearchParams(Object.entries(values(fields)).filter(([, value]) => value))}`);
  } }, elements(fields), h("button", { type: "submit" }, t("filter")));
}

function list(people) {
  const columns = [t("name"), t("signin.email"), t("people.role"), t("people.factor"), t("people.last"), t("status")];
  return table(t("nav.people"), columns.map((title) => [title, ""]), people.map((person) => [
    h("a", { href: address(`/people/${person.id}`) }, person.full_name),
    person.email,
    t(`role.${person.role}`),
    t(person.second_factor ? "people.yes" : "no"),
    person.last_login_at ? moment(person.last_login_at) : t("people.never"),
    h("span", { class: person.is_active ? "" : "state failed" }, t(person.is_active ? "people.active" : "people.inactive")),
  ]));
}

function newPerson(me, done) {
  const fields = {
    full_name: input("full_name", t("name")),
    email: input("email", t("signin.email"), { type: "email" }),
    role: choice("new_role", t("people.role"), roleOptions(ROLES.filter((role) => reaches(me, role))), "STAFF"),
  };
  const shown = h("div");
  // stays the same for the same content until it is known that the person is there
  let attempt = {};
  const form = sendingForm(fields, t("people.create"), async () => {
    const content = JSON.stringify(values(fields));
    if (attempt.content !== content) {
      attempt = { content, key: newKey(), password: newPassword() };
    }
    const { key, password } = attempt;
    const person = await post(PATH, { ...values(fields), password, must_change_password: true }, { key });
    showSecret(shown, t("people.password", { name: person.full_name }), password);
    attempt = {};
    form.reset();
    done();
  }, h("div", { class: "filters" }, elements(fields)));
  return opening(t("people.new"), form, shown);
}
