// Numbers and times for people. The API's numbers are exact decimal strings, and stay so: no float on the way.

import { language } from "./texts.js";

const DECIMAL = /^(-?)(\d+)(?:\.(\d+))?$/;
const makers = new Map();

function maker(kind, options) {
  const key = JSON.stringify([kind.name, language(), options]);
  if (!makers.has(key)) {
    makers.set(key, new kind(language(), options));
  }
  return makers.get(key);
}

// Rounds half away from zero, in integers.
function rounded(whole, fraction, digits) {
  if (fraction.length <= digits) {
    return [whole, fraction];
  }
  let scaled = BigInt(whole + fraction.slice(0, digits));
  if (fraction[digits] >= "5") {
    scaled += 1n;
  }
  const text = scaled.toString().padStart(digits + 1, "0");
  return digits ? [text.slice(0, -digits), text.slice(-digits)] : [text, ""];
}

// `text` as the API writes it, "-1234.5". `least` and `most` are digits after the point; without `most` all that there
// are. Other `options` are those of Intl.NumberFormat, as for a currency.
export function decimal(text, { least = 0, most = Infinity, ...options } = {}) {
  const match = DECIMAL.exec(text ?? "");
  if (match === null) {
    return "–";
  }
  const [whole, digits] = rounded(match[2], match[3] ?? "", most);
  const fraction = digits.replace(/0+$/, "").padEnd(least, "0");
  const zero = !/[1-9]/.test(whole + fraction);
  const grouped = maker(Intl.NumberFormat, { useGrouping: true }).format(BigInt(whole));
  const numerals = maker(Intl.NumberFormat, { useGrouping: false });
  const local = [...fraction].map((digit) => numerals.format(Number(digit))).join("");
  // only the signs and the places of its parts are taken from this number
  const shown = zero ? { ...options, signDisplay: "auto" } : options;
  const shape = maker(Intl.NumberFormat, { ...shown, minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const parts = shape.formatToParts(match[1] && !zero ? -1.5 : 1.5);
  return parts.map(({ type, value }) => {
    if (type === "integer") {
      return grouped;
    }
    if (type === "decimal") {
      return fraction ? value : "";
    }
    return type === "fraction" ? local : value;
  }).join("");
}

// A decimal as an integer with so many of its digits after the point, and back.
function scaled(text, digits) {
  const [whole, fraction = ""] = text.split(".");
  return BigInt(whole + fraction.padEnd(digits, "0"));
}

function unscaled(number, digits) {
  const [, sign, all] = /^(-?)(\d+)$/.exec(String(number));
  const padded = all.padStart(digits + 1, "0");
  const fraction = padded.slice(padded.length - digits).replace(/0+$/, "");
  return sign + padded.slice(0, padded.length - digits) + (fraction && `.${fraction}`);
}

const fractionOf = (text) => (text.split(".")[1] ?? "").length;

// Of two decimals as the API writes them.
export function sum(one, other) {
  const digits = Math.max(fractionOf(one), fractionOf(other));
  return unscaled(scaled(one, digits) + scaled(other, digits), digits);
}

// So many packs in the unit of the item; null if that has more than six decimals.
export function unpacked(text, { numerator, denominator }) {
  const digits = Math.max(6, fractionOf(text));
  const all = scaled(text, digits) * BigInt(numerator);
  return all % BigInt(denominator) === 0n ? unscaled(all / BigInt(denominator), digits) : null;
}

export function money(text, currency, { most = Infinity } = {}) {
  return decimal(text, { least: 2, most, style: "currency", currency });
}

export function count(number) {
  return maker(Intl.NumberFormat, {}).format(number);
}

function decimalSign() {
  return maker(Intl.NumberFormat, {}).formatToParts(1.5).find((part) => part.type === "decimal").value;
}

// As somebody would type what the API has written.
export function asTyped(text) {
  return text.replace(".", decimalSign());
}

// What somebody has typed, as the API reads it; null if it is no number, or might be read in two ways: "1.500" is 1500
// in one language and 1.5 in another.
export function typedDecimal(text) {
  const point = decimalSign();
  const plain = text.trim().replace(/^\+/, "").replace("−", "-");
  if (!/^-?\d+([.,]\d+)?$/.test(plain)) {
    return null;
  }
  const separator = /[.,]/.exec(plain)?.[0];
  if (separator && separator !== point && /[.,]\d{3}$/.test(plain)) {
    return null;
  }
  return plain.replace(",", ".");
}

// Only for the places of a drawing, in which no digit can be read.
export function forDrawing(text) {
  return Number(text);
}

export function moment(text) {
  return maker(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "short" }).format(new Date(text));
}

export function clock(text) {
  return maker(Intl.DateTimeFormat, { timeStyle: "medium" }).format(new Date(text));
}

// "2026-01-31" is a day and no moment: it must not move with the viewer's zone.
export function day(text, options = { day: "numeric", month: "short" }) {
  return maker(Intl.DateTimeFormat, { ...options, timeZone: "UTC" }).format(new Date(`${text}T00:00:00Z`));
}

export function weekday(text) {
  return day(text, { weekday: "short" });
}

export function zone() {
  return maker(Intl.DateTimeFormat, {}).resolvedOptions().timeZone;
}

export function duration(seconds) {
  const [value, unit] = seconds < 90 ? [seconds, "second"]
    : seconds < 5400 ? [seconds / 60, "minute"]
      : seconds < 129600 ? [seconds / 3600, "hour"] : [seconds / 86400, "day"];
  return maker(Intl.NumberFormat, { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 }).format(value);
}

export function bytes(number) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let value = number;
  let index = 0;
  while (value >= 1000 && index < units.length - 1) {
    value /= 1000;
    index += 1;
  }
  const options = { style: "unit", unit: units[index], unitDisplay: "short", maximumFractionDigits: index ? 1 : 0 };
  return maker(Intl.NumberFormat, options).format(value);
}
