// When a schedule runs, in words: only what is exactly so.

import { day } from "../core/format.js";
import { language, t } from "../core/texts.js";

const WEEKDAYS = "sun mon tue wed thu fri sat".split(" ");
const MOST_TIMES = 4;

// The numbers of a field of cron; none unless it has numbers and ranges alone.
function numbers(field) {
  const found = field.split(",").flatMap((part) => {
    const [low, high = low] = part.split("-").map((word) => (/^\d+$/.test(word) ? Number(word) : WEEKDAYS.indexOf(word)));
    return low >= 0 && high >= low ? Array.from({ length: high - low + 1 }, (_, index) => low + index) : [-1];
  });
  return found.includes(-1) ? [] : [...new Set(found)].sort((a, b) => a - b);
}

const list = (texts) => new Intl.ListFormat(language()).format(texts);
const two = (number) => String(number).padStart(2, "0");

// Of the last three fields of cron; null if there are no words for them.
export function daysInWords(date, month, weekday) {
  if (month !== "*" || (date !== "*" && weekday !== "*")) {
    return null;
  }
  if (date === "l") {
    return t("cadence.last");
  }
  const found = numbers(date === "*" ? weekday : date);
  if (date !== "*") {
    return found.length ? t("cadence.month", { days: list(found.map((each) => t("cadence.date", { date: each }))) }) : null;
  }
  // 2024 began with a Monday
  const days = [...new Set(found.map((each) => each % 7 || 7))].sort();
  const names = days.map((each) => day(`2024-01-0${each}`, { weekday: "long" }));
  return weekday === "*" || days.length === 7 ? t("cadence.day") : days.join("") === "12345" ? t("cadence.workdays")
    : days.length ? t("cadence.week", { days: list(names) }) : null;
}

function inWords(cron) {
  const [minute, hour, ...rest] = cron.trim().toLowerCase().split(/\s+/);
  const days = rest.length === 3 ? daysInWords(...rest) : null;
  const [minutes, hours] = [numbers(minute), numbers(hour ?? "")];
  const step = /^\*\/(\d+)$/.exec(minute)?.[1];
  if (days !== null && hour === "*" && (minutes.length === 1 || 60 % step === 0)) {
    const often = step ? t("cadence.minutes", { step }) : t("cadence.hourly", { minute: two(minutes[0]) });
    return days === t("cadence.day") ? often : `${days}, ${often}`;
  }
  const times = hours.flatMap((each) => minutes.map((other) => `${two(each)}:${two(other)}`));
  return days !== null && times.length && times.length <= MOST_TIMES ? t("cadence.at", { days, times: list(times) }) : null;
}

// "Every day at 06:30, time of Berlin"; or cron itself, where there are no words for it.
export function cadence(cron, zone) {
  const words = inWords(cron) ?? cron;
  const place = zone.split("/").pop().replaceAll("_", " ");
  const whole = zone.includes("/") ? t("cadence.zone", { words, place }) : `${words}, ${zone}`;
  return whole[0].toUpperCase() + whole.slice(1);
}
