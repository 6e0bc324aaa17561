// What stands around each view: the way to the others, the language, the theme, and the way out.

import { h } from "./dom.js";
import { base, wordsOf } from "./problem.js";
import { signOut } from "./session.js";
import { chooseLanguage, languageCode, languages, t } from "./texts.js";
import { notice } from "./ui.js";

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

function places(me) {
  return [
    ["", "nav.today", "VIEWER"],
    ["/stock", "nav.stock", "VIEWER"],
    ["/stock/post/in", "nav.post", "STAFF"],
    ["/stock/ledger", "nav.ledger", "VIEWER"],
    ["/stock/low", "nav.low", "VIEWER"],
  ].filter(([, , role]) => may(me, role));
}

// `here` is the path below /console.
function navigation(me, here) {
  const best = places(me).map(([path]) => path).filter((path) => here === path || (path && here.startsWith(`${path}/`)))
    .sort((a, b) => b.length - a.length)[0];
  const isHere = (path) => (here.startsWith("/stock/post") ? path === "/stock/post/in" : path === best);
  return h("nav", { "aria-label": t("nav") }, h("ul", null, places(me).map(([path, name]) =>
    h("li", null, h("a", { href: address(path), "aria-current": isHere(path) && "page" }, t(name))))));
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
  const header = h("header", null,
    h("a", { class: "skip", href: "#main", onclick: (event) => {
      event.preventDefault();
      event.stopPropagation();
      main.querySelector("h1")?.focus();
    } }, t("skip")),
    h("a", { class: "brand", href: address("") }, "erp_service"),
    navigation(me, here),
    h("div", { class: "account" },
      h("span", { class: "who", title: me.email }, me.full_name, h("small", null, t(`role.${me.role}`))),
      preferences(redraw), out));
  const footer = h("footer", null, h("a", { href: `${base}/docs` }, t("foot.docs")), " · ",
    h("a", { href: `${base}/problems` }, t("foot.problems")));
  const offline = h("div", { class: "offline", role: "status" }, t("offline"));
  const show = () => { offline.hidden = navigator.onLine; };
  addEventListener("online", show);
  addEventListener("offline", show);
  show();
  return { parts: [header, offline, main, footer], main };
}
