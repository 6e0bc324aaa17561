// The cluster in one line, for those who may see it.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { count, duration } from "../core/format.js";
import { Offline, wordsOf } from "../core/problem.js";
import { plural, t } from "../core/texts.js";
import { every, loading } from "../core/ui.js";

const SECONDS = 10;
const LATE_SECONDS = 60;

export function clusterLine(signal) {
  const place = h("div", { class: "cluster" });
  const load = () => get("/health/scaling", {}, { signal });
  loading(place, load, render, { signal });
  every(SECONDS, async () => {
    try {
      const now = await load();
      place.replaceChildren(render(now));
    } catch (error) {
      if (!signal.aborted) {
        const words = error instanceof Offline ? t("error.offline") : wordsOf(error);
        place.replaceChildren(h("p", { class: "worry" }, words));
      }
    }
  }, signal);
  return place;
}

function render(now) {
  const alive = now.workers.filter((worker) => worker.holds_lock && !worker.draining).length;
  const lost = now.workers.filter((worker) => !worker.holds_lock).length;
  const waits = now.oldest_waiting ?? 0;
  const facts = [
    [plural("cluster.instances", now.instances, { count: count(now.instances) }), false],
    [plural("cluster.workers", alive, { count: count(alive) }), alive === 0],
    lost > 0 && [plural("cluster.lost", lost, { count: count(lost) }), true],
    [now.queue_depth === 0 ? t("cluster.queue.empty")
      : plural("cluster.queue", now.queue_depth, { count: count(now.queue_depth), time: duration(waits) }), waits > LATE_SECONDS],
    replica(now.replica),
  ].filter(Boolean);
  return h("ul", { class: "facts" }, facts.map(([text, worry]) =>
    h("li", { class: worry ? "worry" : "fine" }, worry && h("span", { class: "hidden" }, `${t("worry")}: `), text)));
}

function replica(state) {
  if (state === null) {
    return [t("cluster.replica.none"), false];
  }
  if (!state.in_use) {
    return [t("cluster.replica.out"), true];
  }
  return [t("cluster.replica", { time: duration(state.lag_seconds ?? 0) }), false];
}
