// The sign-in. The access token is in this module's memory alone; the refresh token is in a cookie that scripts cannot
// read, so a reload begins with a refresh.

import { newKey } from "./key.js";
import { base, Problem, problemOf, Offline } from "./problem.js";

const ADDRESS = `${base}/console/session`;
const LOCK = "erp.console.refresh";
const KEY = "erp.console.refresh-key";
const LEASE_MILLISECONDS = 10_000;

let token = null;
let refreshing = null;
const channel = new BroadcastChannel("erp.console");
const listeners = new Set();

channel.onmessage = ({ data }) => {
  if (data === "signed-out") {
    forget();
  }
};

// Called when there is no session any more, here or because another tab has ended it.
export function onSignedOut(listener) {
  listeners.add(listener);
}

export function accessToken() {
  return token;
}

function forget() {
  token = null;
  listeners.forEach((listener) => listener());
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(ADDRESS + path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    throw new Offline(error);
  }
  if (!answer.ok) {
    throw await problemOf(answer);
  }
  return answer;
}

export async function signIn(email, password, code) {
  const form = new URLSearchParams({ username: email, password });
  if (code) {
    form.set("totp", code);
  }
  token = (await (await ask("", { method: "POST", body: form })).json()).access_token;
}

// After a change of the password, whose answer has a token for this sign-in.
export function takeToken(accessToken) {
  token = accessToken;
}

// A refresh token works once, and a second use ends the sign-in: of all tabs one asks at a time, and each gets the
// cookie that the one before has left. Within a tab, whoever comes meanwhile waits for the same answer. If it is lost on
// the way, the next one asks with the same key, in whichever tab, and gets another.
//
// Raises Problem if there is no session, Offline if there is no answer.
export function refresh() {
  refreshing ??= alone(async () => {
    const answer = await askWithKey();
    if (answer.status === 204) {
      throw new Problem(401, { type: "/problems/no-session", title: "" });
    }
    token = (await answer.json()).access_token;
  }).finally(() => { refreshing = null; });
  return refreshing;
}

async function askWithKey() {
  const key = localStorage.getItem(KEY) ?? newKey();
  localStorage.setItem(KEY, key);
  try {
    const answer = await ask("/refresh", { method: "POST", headers: { "Idempotency-Key": key } });
    localStorage.removeItem(KEY);
    return answer;
  } catch (error) {
    if (error instanceof Problem && !error.isUncertain) {
      localStorage.removeItem(KEY);
    }
    throw error;
  }
}

function alone(work) {
  return navigator.locks ? navigator.locks.request(LOCK, work) : leased(work);
}

// Plain HTTP, not on this machine itself: browsers give no locks there. A lease in the storage that all tabs share
// does: who wrote it, and still finds it after the others had time to write theirs, has it.
async function leased(work) {
  const mine = `${Date.now()}.${crypto.getRandomValues(new Uint32Array(2)).join("")}`;
  for (;;) {
    const [, until] = (localStorage.getItem(LOCK) ?? "|0").split("|");
    if (Number(until) < Date.now()) {
      localStorage.setItem(LOCK, `${mine}|${Date.now() + LEASE_MILLISECONDS}`);
      await new Promise((resolve) => { setTimeout(resolve, 60); });
      if (localStorage.getItem(LOCK)?.startsWith(`${mine}|`)) {
        break;
      }
    }
    await new Promise((resolve) => { setTimeout(resolve, 40 + Math.random() * 60); });
  }
  try {
    return await work();
  } finally {
    localStorage.removeItem(LOCK);
  }
}

// Ends the sign-in on the server, then in all tabs. Raises Offline: then nothing is ended.
export async function signOut() {
  const end = () => ask("", { method: "DELETE", headers: { Authorization: `Bearer ${token}` } });
  try {
    await end();
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 401) {
      throw error;
    }
    try {
      await refresh();
      await end();
    } catch (again) {
      // it has ended already
      if (!(again instanceof Problem) || again.status !== 401) {
        throw again;
      }
    }
  }
  channel.postMessage("signed-out");
  forget();
}

// The server says that there is none any more.
export function sessionEnded() {
  forget();
}
