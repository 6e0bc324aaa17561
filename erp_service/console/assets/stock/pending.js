// What is to be booked, on its way. It keeps its key until it is answered, also over a reload: sent again, it is booked once.

import { post, put } from "../core/api.js";
import { h } from "../core/dom.js";
import { Offline, Problem, wordsOf } from "../core/problem.js";
import { t } from "../core/texts.js";
import { notice } from "../core/ui.js";

const STORED = "erp.console.pending";
const AGAIN_MILLISECONDS = 10_000;

// Those that had no answer when this tab was loaded again, by the name of what they are for.
export function unanswered(name, me) {
  const stored = JSON.parse(sessionStorage.getItem(`${STORED}.${name}`) ?? "null");
  return stored?.user === me.id ? stored : null;
}

// `sent`: {key, path, body}, and an `etag` for a PUT. As often as it takes: as long as nobody knows whether it was
// booked, it is sent again when the network is back, or on a click. Raises Problem if it was refused.
export async function send(name, sent, me, place, signal, words) {
  sessionStorage.setItem(`${STORED}.${name}`, JSON.stringify({ ...sent, user: me.id }));
  const once = () => ("etag" in sent ? put : post)(sent.path, sent.body, sent);
  try {
    const answer = await persistently(once, place, signal, t("post.again"), t("post.lost"), words);
    sessionStorage.removeItem(`${STORED}.${name}`);
    return answer;
  } catch (error) {
    // nobody is signed in any more, or the page was left: whether it was booked before that is not known either
    if (error instanceof Problem && error.status !== 401) {
      sessionStorage.removeItem(`${STORED}.${name}`);
    }
    throw error;
  }
}

// Does `work` until there is an answer, whichever it is; meanwhile `place` says why that takes so long.
export async function persistently(work, place, signal, label, ...words) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Offline || (error instanceof Problem && error.isUncertain))) {
        throw error;
      }
      await again(wordsOf(error), place, signal, label, words);
    }
  }
}

// Ends when it is to be tried again: on a click, when the network is back, or after a while.
export function again(reason, place, signal, label, words) {
  return new Promise((resolve, reject) => {
    const waiting = new AbortController();
    const end = () => {
      place.replaceChildren();
      waiting.abort();
      resolve();
    };
    const button = h("button", { type: "button", class: "primary", onclick: end }, label);
    place.replaceChildren(notice("bad", [reason, ...words].filter(Boolean).map((text) => h("p", null, text)), button));
    button.focus();
    const timer = setInterval(() => navigator.onLine && end(), AGAIN_MILLISECONDS);
    waiting.signal.addEventListener("abort", () => clearInterval(timer));
    addEventListener("online", end, { signal: waiting.signal });
    signal.addEventListener("abort", () => {
      waiting.abort();
      reject(new DOMException("", "AbortError"));
    }, { signal: waiting.signal });
  });
}
