// Exports that come by themselves: when each runs next, how it went last, and what can be changed.

import { get, patch, post, put, remove } from "../core/api.js";
import { cadence, daysInWords } from "./cadence.js";
import { h } from "../core/dom.js";
import { moment, zone } from "../core/format.js";
import { liveList, offer } from "./live.js";
import { Problem, wordsOf } from "../core/problem.js";
import { requestForm, textField } from "./request.js";
import { datasetName, headline, small } from "./running.js";
import { may } from "../shell.js";
import { t } from "../core/texts.js";
import { action, card, field, heading, notice, select, sendingForm } from "../core/ui.js";

const PATH = "/exports/schedules";
const SECONDS = 15;
const DAYS = ["* * *", "* * 1-5", ...[1, 2, 3, 4, 5, 6, 0].map((each) => `* * ${each}`), "1 * *", "l * *"];

export async function view({ main, me, signal }) {
  const place = h("div");
  const list = liveList(PATH, { mine: may(me, "ADMIN") ? "false" : undefined }, {
    none: t("schedules.none"), seconds: SECONDS, whole: true, signal,
    show(row, each) {
      row.facts.replaceChildren(...parts(each, me));
      offer(row, datasetName(each.spec.dataset), offers(each));
    },
  });
  const offers = ({ is_active: active }) => [
    [t("schedules.run"), async ({ id }, key) => {
      await post(`${PATH}/${id}/run`, undefined, { key });
      await list.renew();
    }],
    [t(active ? "schedules.pause" : "schedules.resume"), async ({ id }) => list.put(await patch(`${PATH}/${id}`, { is_active: !active }))],
    [t("schedules.edit"), open],
    [t("exports.delete"), async ({ id }) => {
      await remove(`${PATH}/${id}`);
      list.drop(id);
    }, t("schedules.delete.text")],
  ];

  async function open(row) {
    const [{ items }, schedule] = await Promise.all([get("/exports/datasets", {}, { signal }), row && get(`${PATH}/${row.id}`, {}, { signal })]);
    const close = () => {
      place.replaceChildren();
      main.querySelector("h1").focus();
    };
    const made = form(schedule, items.filter(({ allowed }) => allowed), signal, async () => {
      close();
      await list.renew();
    });
    place.replaceChildren(card(t(schedule ? "schedules.edit" : "schedules.new"), made));
    made.lastChild.append(h("button", { type: "button", onclick: close }, t("schedules.close")));
    made.querySelector("select").focus();
  }

  main.append(heading(t("nav.schedules"), action(t("schedules.new"), () => open(), { kind: "primary" })),
    h("p", { class: "hint" }, t("exports.hint", { zone: zone() })), place, card(t("nav.schedules"), list.element));
}

function parts({ spec, cron, timezone, is_active: active, next_run_at: next, last_run_at: last, last_job: job, last_error: error, owner }, me) {
  const outcome = last && [t("schedules.last", { time: moment(last) }), !error && job && t(`export.${job.status}`)].filter(Boolean).join(": ");
  return [
    headline(spec, active ? "running" : "", t(active ? "schedules.active" : "schedules.paused")), h("div", null, cadence(cron, timezone)),
    small([next && t("schedules.next", { time: moment(next) }), outcome, owner !== me.id && t("exports.by", { id: owner })]),
    small([error && wordsOf(new Problem(error.status, error))], "fault"),
  ];
}

function form(schedule, datasets, signal, done) {
  const request = requestForm(datasets, { spec: schedule?.spec, prefix: "spec/", signal });
  const when = timing(schedule?.cron ?? "0 6 * * *", schedule?.timezone ?? zone());
  const conflict = h("div");
  Object.assign(request.fields, when.fields, {
    updated_at: { control: conflict, say: (text) => conflict.replaceChildren(text ? notice("bad", t("schedules.conflict")) : "") },
  });
  return sendingForm(request.fields, t("schedules.save"), async () => {
    const body = { ...when.value(), spec: request.body() };
    if (schedule) {
      // is refused if somebody has changed it meanwhile; a run changes no `updated_at`
      await put(`${PATH}/${schedule.id}`, { ...body, is_active: schedule.is_active, updated_at: schedule.updated_at });
    } else {
      await request.send(PATH, body);
    }
    await done();
  }, when.element, request.element, conflict);
}

// By the usual rhythms, or by cron itself.
function timing(given, where) {
  const [, minute, hour, rest] = /^(\d+) (\d+) (.*)$/.exec(given.toLowerCase()) ?? [];
  const isKnown = DAYS.includes(rest);
  const days = select("days", [...DAYS.map((each) => [each, daysInWords(...each.split(" "))]), ["", "cron"]], isKnown ? rest : "");
  const time = textField(t("schedules.time"), "time", isKnown ? `${hour.padStart(2, "0")}:${minute.padStart(2, "0")}` : "06:00", null, { type: "time" });
  const cron = textField("cron", "cron", given);
  const timezone = textField(t("exports.zone"), "timezone", where, ["UTC", ...Intl.supportedValuesOf("timeZone")]);
  const words = h("p", { class: "hint", role: "status" });
  const value = () => {
    const [hours, minutes] = time.control.value.split(":").map(Number);
    return { cron: days.value ? `${minutes} ${hours} ${days.value}` : cron.control.value, timezone: timezone.control.value };
  };
  const follow = () => {
    cron.element.hidden = days.value !== "";
    time.element.hidden = days.value === "";
    words.textContent = cadence(value().cron, value().timezone);
  };
  const element = h("div", { class: "stack", oninput: follow },
    h("div", { class: "filters" }, [field(t("schedules.days"), days), time, cron, timezone].map((each) => each.element)), words);
  follow();
  return { element, value, fields: { cron, timezone } };
}
