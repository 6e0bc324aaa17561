// What the state of the cluster means: each fact in words, and whether somebody should look at it: true, false, or
// null where nobody can say.

import { bytes, count, duration } from "../core/format.js";
import { plural, t } from "../core/texts.js";

export const LATE_SECONDS = 60;
const UNSEALED_SECONDS = 180;
// a dump each night, a base backup each week, and two hours for each
const OLD_SECONDS = { dump: 26 * 3600, base: 170 * 3600 };

const age = (state, time) => (time ? Math.max(0, (Date.parse(state.now) - Date.parse(time)) / 1000) : Infinity);
const ago = (state, { ended_at: at }) => duration(age(state, at));

// The last run that succeeded, and the last that failed if that was later.
export function last(state, kind) {
  const { succeeded, failed } = state.runs.find((each) => each.kind === kind);
  return { succeeded, failed: age(state, failed?.ended_at) < age(state, succeeded?.ended_at) ? failed : null };
}

export function backup(state, kind) {
  const { succeeded, failed } = last(state, kind);
  const good = succeeded && t("ops.backup", { time: ago(state, succeeded), size: bytes(succeeded.bytes) });
  if (failed) {
    return [[t("ops.broke", { time: ago(state, failed) }), good].filter(Boolean).join(" · "), true];
  }
  return good ? [good, age(state, succeeded.ended_at) > OLD_SECONDS[kind]] : [t("ops.norecord"), null];
}

// Of both kinds: the one to look at, or the newer one.
export function lastBackup(state) {
  const kinds = ["dump", "base"].map((kind) => [...backup(state, kind), age(state, last(state, kind).succeeded?.ended_at), kind])
    .filter(([, worry]) => worry !== null).sort(([, a, one], [, b, other]) => b - a || one - other);
  return kinds.length ? [`${t(`ops.${kinds[0][3]}`)}: ${kinds[0][0]}`, kinds[0][1]] : [t("cluster.nobackup"), null];
}

export function seal(state) {
  const { seal: { position, sealed_at: at }, unsealed_seconds: waits } = state;
  if (waits > UNSEALED_SECONDS) {
    return [t("ops.sealwaits", { time: duration(waits) }), true];
  }
  return position === 0 ? [t("ops.unsealed"), null] : [t("ops.sealed", { time: duration(age(state, at)) }), false];
}

export function verify(state) {
  const { succeeded, failed } = last(state, "verify");
  if (failed) {
    return [t("ops.books.fail", { count: count(failed.failed_proofs), time: ago(state, failed) }), true];
  }
  return succeeded ? [t("ops.books.hold", { time: ago(state, succeeded) }), false] : [t("ops.books.never"), null];
}

export function replica({ scaling: { replica: now } }) {
  if (now === null) {
    return [t("cluster.replica.none"), null];
  }
  return now.in_use ? [t("cluster.replica", { time: duration(now.lag_seconds ?? 0) }), false] : [t("cluster.replica.out"), true];
}

export function queue({ scaling: { queue_depth: depth, oldest_waiting: waits } }) {
  return [depth === 0 ? t("cluster.queue.empty") : plural("cluster.queue", depth, { count: count(depth), time: duration(waits ?? 0) }),
    waits > LATE_SECONDS];
}

export function alive({ scaling: { workers } }) {
  return workers.filter((worker) => worker.holds_lock && !worker.draining).length;
}
