// What can go wrong: a problem that the service explains (RFC 9457), or no answer at all.

import { hasText, languageCode, t } from "./texts.js";

// The path before /console, if the service does not stand at the root of its host.
export const base = document.documentElement.dataset.base ?? "";

// No answer: what was asked for may have been done or not.
export class Offline extends Error {}

export class Problem extends Error {
  constructor(status, document) {
    super(document.title);
    this.status = status;
    this.document = document;
    this.slug = String(document.type ?? "").split("/").pop();
  }

  // What happened, in the viewer's language if there are words for it, else in the service's own.
  get title() {
    const own = `problem.${this.slug}`;
    return hasText(own) ? t(own, this.document) : this.document.title;
  }

  get detail() {
    // the service writes English: of what the title says in another language, it would only repeat a part
    return hasText(`problem.${this.slug}`) && languageCode() !== "en" ? "" : this.document.detail ?? "";
  }

  // What is wrong with each field or parameter, by its name.
  get fields() {
    const faults = (this.document.errors ?? []).filter(({ pointer, parameter }) => pointer || parameter);
    return new Map(faults.map(({ pointer, parameter, detail }) => [pointer?.slice(1) ?? parameter, detail]));
  }

  // Whether the same request, later, may find another answer, or was done although this says no.
  get isUncertain() {
    return this.status >= 500 || this.slug === "still-running";
  }
}

export async function problemOf(answer) {
  try {
    return new Problem(answer.status, await answer.json());
  } catch {
    // not from the service, but from what stands before it
    return new Problem(answer.status, { title: `HTTP ${answer.status}`, type: "about:blank" });
  }
}

export function wordsOf(error) {
  if (error instanceof Problem) {
    return [error.title, error.detail].filter(Boolean).join(" · ");
  }
  return error instanceof Offline ? t("error.offline") : t("error.unexpected", { error: String(error) });
}
