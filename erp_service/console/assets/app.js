// Which view stands at which address, and what is shown while nobody is signed in.

import { get, onGate } from "./core/api.js";
import { h } from "./core/dom.js";
import { base, Offline, Problem, wordsOf } from "./core/problem.js";
import { onSignedOut, refresh } from "./core/session.js";
import { applyTheme, frame, may } from "./shell.js";
import { loadTexts, t } from "./core/texts.js";
import { heading, notice } from "./core/ui.js";
import * as today from "./today/today.js";

// A view is loaded when it is first opened; Today with the page.
const VIEWS = [
  [/^$/, "VIEWER", async () => today],
  [/^\/stock$/, "VIEWER", () => import("./stock/search.js")],
  [/^\/stock\/low$/, "VIEWER", () => import("./stock/low.js")],
  [/^\/stock\/ledger$/, "VIEWER", () => import("./stock/ledger.js")],
  [/^\/stock\/ledger\/([\w-]+)$/, "STAFF", () => import("./stock/document.js")],
  [/^\/stock\/items\/(\d+)$/, "VIEWER", () => import("./stock/item.js")],
  [/^\/stock\/post\/(in|out|transfer)$/, "STAFF", () => import("./stock/posting.js")],
  [/^\/stock\/post\/(adjustment)$/, "ADMIN", () => import("./stock/posting.js")],
  [/^\/stock\/counts$/, "STAFF", () => import("./stock/counts.js")],
  [/^\/stock\/counts\/([\w-]+)$/, "STAFF", () => import("./stock/count.js")],
  [/^\/exports$/, "VIEWER", () => import("./exports/exports.js")],
  [/^\/exports\/schedules$/, "VIEWER", () => import("./exports/schedules.js")],
  [/^\/imports$/, "STAFF", () => import("./imports/imports.js")],
  [/^\/imports\/([\w-]+)$/, "STAFF", () => import("./imports/import.js")],
  [/^\/account$/, "VIEWER", () => import("./people/account.js")],
  [/^\/people$/, "ADMIN", () => import("./people/people.js")],
  [/^\/people\/(\d+)$/, "ADMIN", () => import("./people/person.js")],
  [/^\/keys$/, "ADMIN", () => import("./people/keys.js")],
  [/^\/settings$/, "ADMIN", () => import("./settings/settings.js")],
  [/^\/audit$/, "ADMIN", () => import("./audit/audit.js")],
  [/^\/audit\/seals$/, "ADMIN", () => import("./audit/seals.js")],
  [/^\/webhooks$/, "ADMIN", () => import("./webhooks/webhooks.js")],
  [/^\/webhooks\/([\w-]+)$/, "ADMIN", () => import("./webhooks/webhook.js")],
  [/^\/operations$/, "ADMIN", () => import("./operations/operations.js")],
  [/^\/operations\/jobs$/, "ADMIN", () => import("./operations/jobs.js")],
];

const GATES = {
  "password-change-required": () => import("./sign-in/password.js"),
  "second-factor-required": () => import("./sign-in/second-factor.js"),
};

const RELOADED = "erp.console.reloaded";
const RELOAD_MILLISECONDS = 10_000;
const PRELOAD_MILLISECONDS = 3_000;

const app = document.getElementById("app");
let me = null;
// the problem that stands before everything else, until it is seen to
let gated = null;
// somebody is signed in, though they may not be known yet
let entered = false;
let leaving = new AbortController();

export async function start() {
  applyTheme();
  await loadTexts();
  const announcements = h("div", { id: "announcements", class: "hidden", "aria-live": "polite" });
  document.body.append(announcements);
  document.addEventListener("click", followLink);
  addEventListener("popstate", () => gated ?? show());
  onGate((slug) => {
    if (gated !== slug) {
      gated = slug;
      gate(slug);
    }
  });
  onSignedOut(() => {
    if (entered) {
      entered = false;
      gated = null;
      me = null;
      show(t("signin.ended"));
    }
  });
  await begin();
  // of the version that this page is: they open at once, also while the network is away
  setTimeout(() => VIEWS.forEach(([, , load]) => load().catch(() => {})), PRELOAD_MILLISECONDS);
}

// With the session that the browser has, if it has one.
async function begin() {
  try {
    await refresh();
    await enter();
  } catch (error) {
    if (error instanceof Problem && error.status === 401) {
      await show();
    } else {
      interrupted(error);
    }
  }
}

// Nothing can be shown yet: the service cannot be reached, or is not ready. What was signed in stays so.
function interrupted(error) {
  const again = () => begin();
  app.replaceChildren(h("main", { class: "narrow" }, heading("erp_service"),
    notice("bad", h("p", null, wordsOf(error)), h("button", { type: "button", onclick: again }, t("again")))));
  if (error instanceof Offline) {
    addEventListener("online", again, { once: true });
  }
}

async function enter() {
  entered = true;
  gated = null;
  try {
    me = await get("/auth/me");
  } catch (error) {
    if (gated !== null) {
      return;
    }
    throw error;
  }
  await show();
}

// A page that stands before all others until it is done.
async function gate(slug) {
  leave();
  const { view } = await GATES[slug]();
  view({ app, done: enter, redraw: () => gate(slug) });
}

function leave() {
  leaving.abort();
  leaving = new AbortController();
  return leaving.signal;
}

export function navigate(path, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", `${base}/console${path}`);
  show();
}

function followLink(event) {
  const link = event.target.closest?.("a[href]");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || link.target || event.defaultPrevented) {
    return;
  }
  const url = new URL(link.href);
  if (url.origin === location.origin && isConsole(url.pathname)) {
    event.preventDefault();
    navigate(url.pathname.slice(`${base}/console`.length) + url.search);
  }
}

function isConsole(path) {
  return path === `${base}/console` || path.startsWith(`${base}/console/`);
}

// The view, or null if it cannot be shown now. A browser may remember that a module did not come, so that only a new
// page can load it; after a roll there is a new one anyway.
async function loaded(load, main, signal) {
  try {
    const { view } = await load();
    return signal.aborted ? null : view;
  } catch (error) {
    if (signal.aborted) {
      return null;
    }
    const last = Number(sessionStorage.getItem(RELOADED) ?? 0);
    if (navigator.onLine && Date.now() - last > RELOAD_MILLISECONDS) {
      sessionStorage.setItem(RELOADED, String(Date.now()));
      location.reload();
      return null;
    }
    const again = () => location.reload();
    main.append(notice("bad", h("p", null, wordsOf(new Offline(error))), h("button", { type: "button", onclick: again }, t("again"))));
    addEventListener("online", again, { once: true, signal });
    return null;
  }
}

async function show(message) {
  const signal = leave();
  if (me === null) {
    const { view } = await import("./sign-in/sign-in.js");
    view({ app, message, done: enter, redraw: () => show(message) });
    return;
  }
  const here = location.pathname.slice(`${base}/console`.length).replace(/\/$/, "");
  const { parts, main } = frame(me, here, () => show());
  const found = VIEWS.map(([pattern, role, load]) => [pattern.exec(here), role, load]).find(([match]) => match);
  app.replaceChildren(...parts);
  scrollTo(0, 0);
  if (!found || !may(me, found[1])) {
    main.append(heading(t("notfound")), h("p", null, t(found ? "notallowed" : "notfound.text")));
  } else {
    const [[, ...params], , load] = found;
    const view = await loaded(load, main, signal);
    if (view === null) {
      return;
    }
    const query = new URLSearchParams(location.search);
    await view({ main, me, params, query, signal, navigate });
  }
  const title = main.querySelector("h1");
  document.title = title ? `${title.textContent} · erp_service` : "erp_service";
  // whoever cannot see hears where they are; a view that has a field to begin with has focused it already
  if (!main.contains(document.activeElement)) {
    title?.focus({ preventScroll: true });
  }
}
