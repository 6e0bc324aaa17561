// The whole cluster, as the instance that answers sees it; drawn anew every few seconds.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { bytes, clock, count, duration } from "../core/format.js";
import { t } from "../core/texts.js";
import { card, empty, heading, table } from "../core/ui.js";
import { address } from "../shell.js";
import { alive, backup, last, LATE_SECONDS, replica, seal, verify } from "./judge.js";
import { keyed, live } from "./patch.js";

const SECONDS = 5;

export async function view({ main, signal }) {
  const place = h("div", { class: "stack" });
  const { said, shown } = live(place, () => get("/operations/state", {}, { signal }), draw, SECONDS, signal);
  main.append(heading(t("nav.cluster")), said, place);
  await shown;
}

function draw(state) {
  return [
    figures(state),
    h("div", { class: "columns" }, card(t("ops.workers"), workers(state.scaling.workers)), card(t("ops.queues"), queues(state.queues))),
    h("div", { class: "columns" }, card(t("ops.database"), database(state), standbys(state.scaling.database)), card(t("ops.proofs"), proofs(state))),
    h("p", { class: "hint" }, t("ops.asof", { time: clock(state.now) })),
  ];
}

function figures(state) {
  const { instances, queue_depth: depth, oldest_waiting: oldest, running_exports: running, waiting_exports: held } = state.scaling;
  return h("dl", { class: "figures" }, [
    [t("ops.instances"), instances],
    [t("ops.workers"), alive(state), "", alive(state) === 0],
    [t("ops.todo"), depth, oldest !== null && t("ops.oldest", { time: duration(oldest) }), oldest > LATE_SECONDS],
    [t("ops.exports.running"), running],
    [t("ops.exports.held"), held],
  ].map(([name, value, more, worry]) => h("div", null, h("dt", null, name),
    h("dd", { class: worry ? "worry" : "" }, count(value), more && h("small", null, more)))));
}

function workers(all) {
  const columns = [[t("ops.workers"), ""], [t("ops.heartbeat"), "number"], [t("nav.jobs"), "number"], [t("status"), ""]];
  return all.length === 0 ? empty(t("ops.noworkers")) : keyed(table(t("ops.workers"), columns, all.map((worker) => [
    [worker.host ?? "", h("small", null, ` #${worker.id}`)], t("ops.ago", { time: duration(worker.heartbeat_age) }), count(worker.running),
    !worker.holds_lock ? verdict(t("ops.gone"), true) : verdict(t(worker.draining ? "ops.draining" : "ops.alive"), worker.draining ? null : false),
  ])), all.map(({ id }) => id));
}

function queues(depths) {
  const names = [...new Set(depths.map(({ queue }) => queue))];
  const states = ["todo", "doing", "failed"];
  const cell = (queue, status) => {
    const jobs = depths.find((each) => each.queue === queue && each.status === status)?.jobs ?? 0;
    return jobs && status === "failed" ? h("a", { href: `${address("/operations/jobs")}?queue=${queue}` }, count(jobs)) : count(jobs);
  };
  return names.length === 0 ? empty(t("cluster.queue.empty")) : keyed(table(t("ops.queues"),
    [[t("ops.queue"), ""], ...states.map((status) => [t(`ops.${status}`), "number"])],
    names.map((queue) => [queue, ...states.map((status) => cell(queue, status))])), names);
}

function database(state) {
  const { database: now, scaling: { database: { leader, timeline } } } = state;
  const pool = t("ops.pool.of", { count: count(now.pool_in_use), size: count(now.pool_size) });
  return lines([
    [t("ops.leader"), [now.in_recovery ? t("ops.recovers") : leader ?? "–", now.in_recovery]],
    [t("ops.version"), [`PostgreSQL ${now.server_version}`, null]],
    [t("ops.timeline"), [String(timeline ?? "–"), null]],
    [t("ops.migration"), [now.migration, null]],
    [t("ops.pool"), [pool, now.pool_in_use >= now.pool_size]],
    [t("ops.replica"), replica(state)],
  ]);
}

function standbys({ standbys: all }) {
  const columns = [[t("ops.standbys"), ""], [t("kind"), ""], [t("ops.lag"), "number"]];
  return all.length > 0 && table(t("ops.standbys"), columns, all.map((one) =>
    [one.name, t(one.synchronous ? "ops.sync" : "ops.async"), one.lag_bytes === null ? "–" : bytes(one.lag_bytes)]));
}

function proofs(state) {
  const wal = state.receives_wal;
  const place = (kind) => (last(state, kind).failed ?? last(state, kind).succeeded)?.place;
  return lines([
    [t("ops.dump"), backup(state, "dump"), place("dump")],
    [t("ops.base"), backup(state, "base"), place("base")],
    [t("ops.wal"), wal === null ? [t("ops.norecord"), null] : [t(wal ? "ops.wal.on" : "ops.wal.off"), !wal]],
    [t("ops.seal"), seal(state)],
    [t("ops.verify"), verify(state)],
  ]);
}

// Name, what to think of it, and where it is.
function lines(facts) {
  return h("dl", { class: "lines" }, facts.map(([name, judged, where]) =>
    h("div", null, h("dt", null, name), h("dd", null, verdict(...judged), where && h("small", null, where)))));
}

function verdict(text, worry) {
  return h("span", { class: `verdict ${worry ? "worry" : worry === null ? "unknown" : "fine"}` },
    worry !== null && h("span", { class: "hidden" }, `${t(worry ? "worry" : "ops.fine")}: `), text);
}
