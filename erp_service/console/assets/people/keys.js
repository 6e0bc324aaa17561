// Keys for programs, in place of somebody's password.

import { get, post, remove } from "../core/api.js";
import { h, newId } from "../core/dom.js";
import { choice, elements, input, opening, reaches, roleOptions, ROLES, values } from "./fields.js";
import { moment } from "../core/format.js";
import { pages } from "../core/pages.js";
import { Offline } from "../core/problem.js";
import { address, may } from "../shell.js";
import { showSecret } from "./secret.js";
import { t } from "../core/texts.js";
import { action, empty, heading, loading, sendingForm, table } from "../core/ui.js";

const PATH = "/api-keys";
const AREAS = { items: "scope.items", locations: "locations", stock: "scope.stock", exports: "scope.exports", imports: "nav.imports",
  users: "nav.people", webhooks: "nav.webhooks", settings: "nav.settings", reports: "scope.reports", audit: "scope.audit", operations: "nav.operations" };
const READ_ONLY = ["reports", "audit"];
const MOST_NETWORKS = 50;

export async function view({ main, me, query, signal }) {
  const filter = { is_active: query.has("all") ? undefined : true, limit: 50 };
  const place = h("div");
  const load = async () => {
    const [first, people] = await Promise.all([get(PATH, filter, { signal }), get("/users", { limit: 500 }, { signal })]);
    return { first, makers: new Map(people.items.map((person) => [person.id, person])) };
  };
  const again = () => loading(place, load, draw, { signal, quiet: true });
  const draw = ({ first, makers }) => (first.items.length === 0 ? empty(t("keys.none"))
    : pages(PATH, first, { ...filter, signal }, (keys) => list(me, keys, makers, again)));
  const tab = (name, search, here) => h("a", { href: address("/keys") + search, "aria-current": here && "page" }, t(name));
  main.append(heading(t("nav.keys"), h("nav", { class: "tabs", "aria-label": t("filter") },
    tab("keys.active", "", !query.has("all")), tab("all", "?all", query.has("all")))), newApiKey(me, again), place);
  await loading(place, load, draw, { signal });
}

function list(me, keys, makers, again) {
  const columns = ["name", "keys.hint", "keys.maker", "people.role", "keys.scopes", "keys.networks", "signins.used", "keys.expires", "status"];
  return table(t("nav.keys"), columns.map((name) => [t(name), name === "keys.scopes" ? "wide" : ""]), keys.map((key) => {
    const maker = makers.get(key.user_id);
    return [key.name, h("code", null, `${key.hint}…`), maker?.full_name ?? `#${key.user_id}`, t(`role.${key.role}`),
      key.scopes.join(", "), key.networks?.join(", ") ?? t("keys.any"),
      key.last_used_at ? moment(key.last_used_at) : t("people.never"), key.expires_at ? moment(key.expires_at) : t("people.never"),
      status(key, key.user_id === me.id || reaches(me, maker?.role ?? "ADMIN"), again)];
  }));
}

function status(key, mine, again) {
  if (!key.is_active) {
    return h("span", { class: "state failed" }, key.revoked_at ? t("keys.revoked", { when: moment(key.revoked_at) }) : t("keys.expired"));
  }
  return mine ? action(t("keys.revoke"), async () => {
    await remove(`${PATH}/${key.id}`);
    await again();
  }, { kind: "small", name: key.name, confirm: { title: t("keys.revoke"), text: t("keys.revoke.ask", { name: key.name }) } }) : t("people.active");
}

// A row for each area, and a column each for reading and writing.
function scopeMatrix() {
  const id = newId("scopes");
  const fault = h("p", { class: "fault", id });
  const box = (area, how) => h("input", { type: "checkbox", name: "scopes", value: `${area}:${how}`, "aria-describedby": id,
    "aria-label": `${t(`keys.${how}`)}: ${t(AREAS[area])}` });
  const rows = Object.entries(AREAS).map(([area, name]) => [t(name), box(area, "read"), READ_ONLY.includes(area) ? "" : box(area, "write")]);
  const matrix = table(t("keys.scopes"), [[t("keys.scopes"), "wide"], [t("keys.read"), ""], [t("keys.write"), ""]], rows);
  return {
    element: h("div", { class: "scopes" }, matrix, fault),
    control: matrix.querySelector("input"),
    chosen: () => [...matrix.querySelectorAll(":checked")].map(({ value }) => value),
    say: (text) => { fault.textContent = text; },
  };
}

function newApiKey(me, done) {
  const fields = {
    name: input("name", t("name"), { maxlength: "100", hint: t("keys.name.hint") }),
    role: choice("role", t("people.role"), roleOptions(ROLES.filter((role) => may(me, role)))),
    expires_at: input("expires_at", t("keys.last"), { type: "date", hint: t("keys.last.hint") }),
    networks: input("networks", t("keys.networks"), { maxlength: "2000", hint: t("keys.networks.hint") }),
  };
  const scopes = scopeMatrix();
  const each = Array.from({ length: MOST_NETWORKS }, (_, index) => [`networks/${index}`, fields.networks]);
  const shown = h("div");
  const form = sendingForm({ ...fields, ...Object.fromEntries(each), scopes }, t("people.create"), async () => {
    const { name, role, expires_at: last, networks } = values(fields);
    const [chosen, all] = [scopes.chosen(), networks.split(/[\s,]+/).filter(Boolean)];
    if (chosen.length === 0) {
      scopes.say(t("field.needed"));
      scopes.control.focus();
      return;
    }
    try {
      const made = await post(PATH, { name, role, scopes: chosen, networks: all.length ? all : null,
        expires_at: last ? new Date(`${last}T23:59:59`).toISOString() : null });
      showSecret(shown, t("keys.shown"), made.key);
      form.reset();
    } catch (error) {
      // it may have been made, and then nobody has it
      if (error instanceof Offline) {
        fields.name.say(t("keys.lost"));
      }
      throw error;
    } finally {
      done();
    }
  }, h("div", { class: "columns" }, h("div", { class: "sending" }, elements(fields)), scopes.element));
  return opening(t("keys.new"), form, shown);
}
