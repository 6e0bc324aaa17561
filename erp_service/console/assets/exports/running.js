// Exports in motion: each one that has not ended is followed by its events, from whichever instance answers.

import { follow, get, newKey, post } from "../core/api.js";
import { h } from "../core/dom.js";
import { bytes, clock, count, duration, moment } from "../core/format.js";
import { wordsOf } from "../core/problem.js";
import { may } from "../shell.js";
import { t } from "../core/texts.js";
import { empty, every, loading, notice } from "../core/ui.js";

const ENDED = new Set(["succeeded", "failed", "canceled", "expired"]);
const SHOWN = 6;
// a user may have a few streams at once, and another tab may want some of them
const MOST_FOLLOWED = 3;
const LIST_SECONDS = 10;

export function exportList(me, signal) {
  const place = h("div");
  const rows = new Map();
  const followed = new Set();

  async function load() {
    const query = { limit: SHOWN, mine: may(me, "ADMIN") ? "false" : undefined };
    return (await get("/exports/jobs", query, { signal })).items;
  }

  function render(jobs) {
    rows.clear();
    for (const job of jobs) {
      const row = h("li", { class: "export" }, h("div"), h("div", { class: "actions" }));
      rows.set(job.id, row);
      show(job);
    }
    jobs.filter((job) => !ENDED.has(job.status)).forEach(watch);
    return jobs.length ? h("ul", { class: "plain" }, [...rows.values()]) : empty(t("exports.none"));
  }

  function show(job) {
    const row = rows.get(job.id);
    if (row) {
      row.firstChild.replaceChildren(...parts(job));
      offer(job, row);
    }
  }

  // What can be done with it now: get the file, or stop it. A button that stays the same keeps the focus.
  function offer(job, row) {
    const [label, work] = job.links.download ? [t("exports.download"), download]
      : job.links.cancel ? [t("exports.cancel"), cancel] : ["", null];
    const place = row.lastChild;
    if (place.textContent === label) {
      return;
    }
    place.replaceChildren();
    if (work === null) {
      return;
    }
    const button = h("button", { type: "button", class: "small", "aria-label": `${label}: ${job.dataset}`, onclick: async () => {
      button.disabled = true;
      try {
        await work(job);
      } catch (error) {
        row.firstChild.append(notice("bad", wordsOf(error)));
      } finally {
        button.disabled = false;
      }
    } }, label);
    place.append(button);
  }

  // By an address that needs no token, since the browser itself fetches the file; it is valid for five minutes.
  async function download({ id }) {
    location.assign((await post(`/exports/jobs/${id}/download-url`, undefined, { signal })).url);
  }

  async function cancel({ id }) {
    await post(`/exports/jobs/${id}/cancel`, undefined, { signal, key: newKey() });
  }

  async function watch({ id }) {
    if (followed.has(id) || followed.size >= MOST_FOLLOWED) {
      return;
    }
    followed.add(id);
    let after;
    let ended = false;
    try {
      while (!ended && !signal.aborted) {
        await follow(`/exports/jobs/${id}/events`, (_, job, position) => {
          after = position;
          ended = ENDED.has(job.status);
          show(job);
        }, { signal, after });
        // the instance stops: another goes on from here
        await new Promise((resolve) => { setTimeout(resolve, ended ? 0 : 1000); });
      }
    } catch {
      // too many streams, or no answer: the list is read again in a moment, and says what is wrong if that fails
    } finally {
      followed.delete(id);
    }
  }

  async function again() {
    try {
      const jobs = await load();
      if (jobs.some(({ id }) => !rows.has(id)) || jobs.length !== rows.size) {
        place.replaceChildren(render(jobs));
      } else {
        jobs.filter(({ id }) => !followed.has(id)).forEach(show);
        jobs.filter((job) => !ENDED.has(job.status)).forEach(watch);
      }
    } catch (error) {
      if (!signal.aborted) {
        place.replaceChildren(notice("bad", wordsOf(error)));
        rows.clear();
      }
    }
  }

  loading(place, load, render, { signal });
  every(LIST_SECONDS, again, signal);
  return place;
}

function parts(job) {
  const { progress, result } = job;
  const running = job.status === "running" || job.status === "canceling";
  const name = [h("strong", null, job.dataset), ` ${job.format.toUpperCase()}`];
  const state = h("span", { class: `state ${job.status}` }, t(`export.${job.status}`));
  const line = h("div", { class: "line" }, h("span", null, name), state);
  if (running) {
    const bar = h("progress", { max: 100, value: progress.percent ?? undefined, "aria-label": t("exports.progress", { dataset: job.dataset }) });
    const rowsDone = t("exports.rows", { rows: count(progress.rows_done) });
    const left = progress.eta_seconds === null ? "" : ` · ${t("exports.left", { time: duration(progress.eta_seconds) })}`;
    return [line, bar, h("small", null, rowsDone + left)];
  }
  if (job.status === "queued") {
    return [line, h("small", null, t("exports.since", { time: clock(job.created_at) }))];
  }
  const size = result ? ` · ${t("exports.rows", { rows: count(result.rows) })} · ${bytes(result.bytes)}` : "";
  const why = job.error ? ` · ${job.error.title}` : "";
  return [line, h("small", null, moment(job.finished_at ?? job.created_at) + size + why)];
}
