// What stands around each view: the way to the others, the language, the theme, and the way out.

import { h } from "./core/dom.js";
import { base, wordsOf } from "./core/problem.js";
import { signOut } from "./core/session.js";
import { chooseLanguage, languageCode, languages, t } from "./core/texts.js";
import { notice } from "./core/ui.js";

const THEME = "erp.console.theme";
const ROLES = ["VIEWER", "STAFF", "ADMIN", "SUPER_ADMIN"];

export function may(me, role) {
  return ROLES.indexOf(me.role) >= ROLES.indexOf(role);
}

export function address(path) {
  return `${base}/console${path}`;
}

export function applyTheme() {
  const theme = localStorage.getItem(THEME);
  document.documentElement.dataset.theme = theme === "light" || theme === "dark" ? theme : "system";
}

function choice(label, options, chosen, onchange) {
  return h("label", { class: "choice" }, h("span", { class: "hidden" }, label),
    h("select", { onchange: (event) => onchange(event.target.value) },
      options.map(([value, text]) => h("option", { value, selected: value === chosen }, text))));
}

export function preferences(redraw) {
  const theme = document.documentElement.dataset.theme;
  return [
    choice(t("language"), languages(), languageCode(), async (code) => {
      await chooseLanguage(code);
      redraw();
    }),
    choice(t("theme"), ["system", "light", "dark"].map((name) => [name, t(`theme.${name}`)]), theme, (name) => {
      localStorage.setItem(THEME, name);
      applyTheme();
    }),
  ];
}

// The rooms of the console, each with its views: the path below /console, the name, and the role that may see it.
const ROOMS = [
  ["nav.today", [["", "nav.today", "VIEWER"]]],
  ["nav.stock", [["/stock", "nav.search", "VIEWER"], ["/stock/counts", "nav.counts", "STAFF"],
    ["/stock/ledger", "nav.ledger", "VIEWER"], ["/stock/low", "nav.low", "VIEWER"]]],
  ["nav.post", [["/stock/post", "nav.post", "STAFF"]]],
  ["nav.exports", [["/exports", "nav.exports", "VIEWER"], ["/exports/schedules", "nav.schedules", "VIEWER"]]],
  ["nav.imports", [["/imports", "nav.imports", "STAFF"]]],
  ["nav.operations", [["/operations", "nav.cluster", "ADMIN"], ["/operations/jobs", "nav.jobs", "ADMIN"]]],
  ["nav.company", [["/people", "nav.people", "ADMIN"], ["/keys", "nav.keys", "ADMIN"], ["/settings", "nav.settings", "ADMIN"],
    ["/audit", "nav.audit", "ADMIN"], ["/audit/seals", "nav.seals", "ADMIN"], ["/webhooks", "nav.webhooks", "ADMIN"]]],
];

const linkOf = (path) => address(path === "/stock/post" ? "/stock/post/in" : path);

function links(label, each, isHere, kind) {
  return h("nav", { "aria-label": label, class: kind }, h("ul", null, each.map(([name, path]) =>
    h("li", null, h("a", { href: linkOf(path), "aria-current": isHere(path) && "page" }, t(name))))));
}

// The rooms, and the views of the one that `here` is in, a path below /console.
function navigation(me, here) {
  const rooms = ROOMS.map(([name, views]) => [name, views.filter(([, , role]) => may(me, role))])
    .filter(([, views]) => views.length > 0);
  const paths = rooms.flatMap(([, views]) => views.map(([path]) => path));
  const best = paths.filter((path) => here === path || (path && here.startsWith(`${path}/`))).sort((a, b) => b.length - a.length)[0];
  const isIn = (views) => views.some(([path]) => path === best);
  const open = rooms.find(([, views]) => isIn(views));
  return [
    links(t("nav"), rooms.map(([name, views]) => [name, views[0][0]]), (first) => open?.[1][0][0] === first, "rooms"),
    open?.[1].length > 1 && links(t(open[0]), open[1].map(([path, name]) => [name, path]), (path) => path === best, "views"),
  ];
}

export function frame(me, here, redraw) {
  const main = h("main", { id: "main" });
  const out = h("button", { type: "button", class: "quiet", onclick: async () => {
    try {
      await signOut();
    } catch (error) {
      main.prepend(notice("bad", t("signout.failed", { error: wordsOf(error) })));
    }
  } }, t("signout"));
  const [rooms, views] = navigation(me, here);
  const header = h("header", null,
    h("a", { class: "skip", href: "#main", onclick: (event) => {
      event.preventDefault();
      event.stopPropagation();
      main.querySelector("h1")?.focus();
    } }, t("skip")),
    h("a", { class: "brand", href: address("") }, "erp_service"),
    rooms,
    h("div", { class: "account" },
      h("a", { class: "who", title: me.email, href: address("/account") }, me.full_name, h("small", null, t(`role.${me.role}`))),
      preferences(redraw), out));
  const footer = h("footer", null, h("a", { href: `${base}/docs` }, t("foot.docs")), " · ",
    h("a", { href: `${base}/problems` }, t("foot.problems")));
  const offline = h("div", { class: "offline", role: "status" }, t("offline"));
  const show = () => { offline.hidden = navigator.onLine; };
  addEventListener("online", show);
  addEventListener("offline", show);
  show();
  return { parts: [header, views, offline, main, footer].filter(Boolean), main };
}
