// Exports: each one that has not ended is followed by its events, from whichever instance answers.

import { follow, post, remove } from "../core/api.js";
import { h } from "../core/dom.js";
import { bytes, clock, count, duration, moment } from "../core/format.js";
import { liveList, offer } from "./live.js";
import { Problem, wordsOf } from "../core/problem.js";
import { may } from "../shell.js";
import { hasText, plural, t } from "../core/texts.js";

const ENDED = new Set(["succeeded", "failed", "canceled", "expired"]);
// a user may have a few streams at once, and another tab may want some of them
const MOST_FOLLOWED = 3;
const LIST_SECONDS = 10;

export function datasetName(name) {
  return hasText(`dataset.${name}`) ? t(`dataset.${name}`) : name;
}

export function rowCount(rows) {
  return plural("exports.rows", rows, { rows: count(rows) });
}

// The last few, with what is needed most; or the `whole` list, with all that can be done.
export function exportList(me, signal, whole = false) {
  const followed = new Set();
  const query = { limit: whole ? 20 : 6, mine: may(me, "ADMIN") ? "false" : undefined };
  const list = liveList("/exports/jobs", query, {
    none: t("exports.none"), seconds: LIST_SECONDS, whole, signal,
    show(row, job) {
      row.facts.replaceChildren(...parts(job), ...(whole ? further(job, me) : []));
      offer(row, datasetName(job.dataset), offers(job));
    },
    keep: (id) => followed.has(id),
    after: (jobs) => jobs.filter((job) => !ENDED.has(job.status)).forEach(watch),
  });

  async function drop({ id }) {
    await remove(`/exports/jobs/${id}`);
    list.drop(id);
  }

  function offers({ links, status }) {
    const send = (what) => async ({ id }, key) => {
      await post(`/exports/jobs/${id}/${what}`, undefined, { key });
      await list.renew();
    };
    return [links.download && [t("exports.download"), download], links.cancel && [t("exports.cancel"), send("cancel")],
      whole && links.retry && [t("exports.retry"), send("retry")], whole && ENDED.has(status) && [t("exports.delete"), drop, t("exports.delete.text")]].filter(Boolean);
  }

  // By an address that needs no token, since the browser itself fetches the file; it is valid for five minutes.
  async function download({ id }) {
    location.assign((await post(`/exports/jobs/${id}/download-url`, undefined, { signal })).url);
  }

  async function watch({ id }) {
    if (followed.has(id) || followed.size >= MOST_FOLLOWED) {
      return;
    }
    followed.add(id);
    let after;
    let ended = false;
    while (!ended && !signal.aborted) {
      try {
        await follow(`/exports/jobs/${id}/events`, (_, job, position) => {
          after = position;
          ended = ENDED.has(job.status);
          list.put(job);
        }, { signal, after });
      } catch (error) {
        if (error instanceof Problem) {
          // too many streams, or it was deleted: the list is read again in a moment
          break;
        }
      }
      // the instance stops, or is gone: another goes on from here
      await new Promise((resolve) => { setTimeout(resolve, ended ? 0 : 1000); });
    }
    followed.delete(id);
  }

  return list;
}

export function small(texts, kind) {
  return h("small", { class: kind }, texts.filter(Boolean).join(" · "));
}

export function headline({ dataset, format }, state, words) {
  return h("div", { class: "line" }, h("span", null, h("strong", null, datasetName(dataset)), ` ${format.toUpperCase()}`),
    h("span", { class: `state ${state}` }, words));
}

function parts(job) {
  const { progress, result, error, status, attempt } = job;
  const line = headline(job, status, t(`export.${status}`));
  const again = attempt > 1 && t("exports.attempt", { attempt });
  if (status === "running" || status === "canceling") {
    const bar = h("progress", { max: 100, value: progress.percent ?? undefined, "aria-label": t("exports.progress", { dataset: datasetName(job.dataset) }) });
    return [line, bar, small([rowCount(progress.rows_done),
      progress.eta_seconds !== null && t("exports.left", { time: duration(progress.eta_seconds) }), again])];
  }
  if (status === "queued") {
    return [line, small([t("exports.since", { time: clock(job.created_at) }), again])];
  }
  const why = error ? [small([wordsOf(new Problem(error.status, error))], "fault")] : [];
  return [line, small([moment(job.finished_at ?? job.created_at), result && rowCount(result.rows),
    result && bytes(result.bytes), again]), ...why];
}

function further({ id, filter = {}, status, expires_at: until, created_by: owner }, me) {
  const texts = Object.entries(filter).map(([name, value]) => `${name} ${/^\d{4}-.*T/.test(value) ? moment(value) : value}`);
  return [small([...texts, status === "succeeded" && until && t("exports.expires", { time: moment(until) }), status === "failed" && id,
    owner !== me.id && t("exports.by", { id: owner })])];
}
