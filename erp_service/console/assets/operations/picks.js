// Lines of a table that are chosen, many at a time, and what is done with all of them at once.

import { newKey, post } from "../core/api.js";
import { h } from "../core/dom.js";
import { count } from "../core/format.js";
import { Problem, wordsOf } from "../core/problem.js";
import { t } from "../core/texts.js";
import { asked, notice, table } from "../core/ui.js";
import { keyed } from "./patch.js";

// The table with a box before each line; `names` of the lines are what the API calls them.
export function pickTable(caption, columns, names, rows) {
  const box = (value, label) => h("input", { type: "checkbox", value, "aria-label": label });
  return keyed(table(caption, [[box("", t("jobs.all")), ""], ...columns],
    rows.map((cells, index) => [box(names[index], t("jobs.choose", { job: names[index] })), ...cells])), names);
}

// For a `place` that holds such a table. `act` is "retry" or "cancel"; `done` is called after it.
export function picks(place, act, done) {
  const chosen = new Set();
  const said = h("div");
  const button = h("button", { type: "button", class: "primary", onclick: send });
  const bar = h("div", { class: "actions" }, button);
  const boxes = () => [...place.querySelectorAll("tbody input")];
  let key = newKey();

  function sync() {
    const there = boxes().map(({ value }) => value);
    [...chosen].filter((name) => !there.includes(name)).forEach((name) => chosen.delete(name));
    boxes().forEach((box) => { box.checked = chosen.has(box.value); });
    const all = place.querySelector("thead input");
    if (all) {
      all.checked = chosen.size === there.length;
    }
    bar.hidden = there.length === 0;
    button.disabled = chosen.size === 0;
    button.textContent = t(`jobs.${act}`, { count: count(chosen.size) });
  }

  place.addEventListener("change", ({ target }) => {
    (target.value ? [target] : boxes()).forEach(({ value }) => chosen[target.checked ? "add" : "delete"](value));
    key = newKey();
    sync();
  });
  // lines come, go and are drawn again
  new MutationObserver(sync).observe(place, { childList: true, subtree: true });
  sync();

  async function send() {
    const jobs = [...chosen];
    if (act === "cancel" && !await asked(button.textContent, t("jobs.cancel.text"), button.textContent)) {
      return;
    }
    button.disabled = true;
    said.replaceChildren();
    try {
      const { items } = await post(`/operations/jobs/${act}`, { jobs }, { key });
      said.replaceChildren(outcomes(items));
      chosen.clear();
      key = newKey();
      await done();
    } catch (error) {
      said.replaceChildren(notice("bad", wordsOf(error)));
    } finally {
      sync();
    }
  }

  function outcomes(items) {
    const isGood = items.every((item) => item.done);
    return notice(isGood ? "good" : "info", h("ul", { class: "facts" }, items.map(({ job, done: isDone, problem }) =>
      h("li", { class: isDone ? "fine" : "worry" }, `${job}: `, isDone ? t(`jobs.${act}.done`) : wordsOf(new Problem(problem.status, problem))))));
  }

  return [bar, said];
}
