// Lists that go on: the first page, and a button for the next as long as there is one.

import { get } from "./api.js";
import { h } from "./dom.js";
import { wordsOf } from "./problem.js";
import { t } from "./texts.js";
import { notice } from "./ui.js";

export function pages(path, first, { signal, ...query }, draw) {
  const lines = [...first.items];
  let cursor = first.next_cursor;
  const list = h("div", null, draw(lines));
  const said = h("div");
  const button = h("button", { type: "button", onclick: more }, t("more"));
  button.hidden = cursor === null;

  async function more() {
    button.disabled = true;
    said.replaceChildren();
    try {
      const page = await get(path, { ...query, cursor }, { signal });
      lines.push(...page.items);
      cursor = page.next_cursor;
      list.replaceChildren(draw(lines));
      button.hidden = cursor === null;
    } catch (error) {
      if (error.name !== "AbortError") {
        said.replaceChildren(notice("bad", wordsOf(error)));
      }
    } finally {
      button.disabled = false;
    }
  }

  return h("div", null, list, said, button);
}
