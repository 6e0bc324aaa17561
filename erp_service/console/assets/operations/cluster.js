// The cluster in one line, for those who may see it.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { count } from "../core/format.js";
import { plural, t } from "../core/texts.js";
import { alive, lastBackup, queue, replica, seal, verify } from "./judge.js";
import { live } from "./patch.js";

const SECONDS = 10;

export function clusterLine(signal) {
  const place = h("div", { class: "cluster" });
  const { said } = live(place, () => get("/operations/state", {}, { signal }), render, SECONDS, signal);
  return h("div", null, said, place);
}

function render(state) {
  const { instances, workers } = state.scaling;
  const lost = workers.filter((worker) => !worker.holds_lock).length;
  const facts = [
    [plural("cluster.instances", instances, { count: count(instances) }), false],
    [plural("cluster.workers", alive(state), { count: count(alive(state)) }), alive(state) === 0],
    lost > 0 && [plural("cluster.lost", lost, { count: count(lost) }), true],
    queue(state), replica(state), lastBackup(state), seal(state), verify(state),
  ].filter(Boolean);
  return h("ul", { class: "facts" }, facts.map(([text, worry]) =>
    h("li", { class: worry ? "worry" : worry === null ? "unknown" : "fine" }, worry && h("span", { class: "hidden" }, `${t("worry")}: `), text)));
}
