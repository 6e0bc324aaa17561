// A list that renews itself, newest first. Rows are kept by id, so that neither the focus nor the place in the page is lost.

import { get, newKey } from "../core/api.js";
import { h } from "../core/dom.js";
import { wordsOf } from "../core/problem.js";
import { t } from "../core/texts.js";
import { action, empty, every, loading, notice } from "../core/ui.js";

// `show(row, item)` fills `row.facts`; `after` gets all items; rows for which `keep` holds are newer than a page of the list.
export function liveList(path, query, { none, seconds, whole, signal, show, after = () => {}, keep = () => false }) {
  const list = h("ul", { class: "plain" });
  const nothing = h("div", null, empty(none));
  const said = h("div");
  const element = h("div");
  const rows = new Map();
  let cursor;

  const load = (from) => get(path, { ...query, cursor: from }, { signal });
  const more = action(t("more"), async () => {
    const page = await load(cursor);
    cursor = page.next_cursor;
    merge(page.items);
  });

  function put(item) {
    const row = rows.get(item.id) ?? newRow();
    rows.set(item.id, row);
    row.item = item;
    show(row, item);
  }

  function drop(id) {
    rows.get(id)?.element.remove();
    rows.delete(id);
    nothing.hidden = rows.size > 0;
  }

  function merge(items) {
    items.filter(({ id }) => !rows.has(id) || !keep(id)).forEach(put);
    [...rows.keys()].sort().reverse().forEach((id, index) => {
      const row = rows.get(id).element;
      if (list.children[index] !== row) {
        list.insertBefore(row, list.children[index] ?? null);
      }
    });
    nothing.hidden = rows.size > 0;
    more.hidden = !whole || !cursor;
    after([...rows.values()].map(({ item }) => item));
  }

  function first({ items, next_cursor: next }) {
    const present = new Set(items.map(({ id }) => id));
    // what is older than this page is on others
    const oldest = whole && next ? items.at(-1).id : "";
    [...rows.keys()].filter((id) => !present.has(id) && id > oldest).forEach(drop);
    cursor ??= next;
    merge(items);
    said.replaceChildren();
    return [said, list, nothing, more];
  }

  async function renew() {
    try {
      first(await load());
    } catch (error) {
      if (!signal.aborted && said.textContent !== wordsOf(error)) {
        said.replaceChildren(notice("bad", wordsOf(error)));
      }
    }
  }

  loading(element, load, first, { signal });
  every(seconds, renew, signal);
  return { element, put, drop, renew };
}

function newRow() {
  const row = { facts: h("div"), actions: h("div", { class: "actions" }) };
  row.element = h("li", { class: "export" }, row.facts, row.actions);
  return row;
}

// [label, work, what to ask before] of what can be done now. Buttons that stay the same keep the focus. `work` gets the
// item and an Idempotency-Key, which is another one after success.
export function offer(row, name, offers) {
  const labels = offers.map(([label]) => label).join();
  if (row.labels === labels) {
    return;
  }
  row.labels = labels;
  row.actions.replaceChildren(...offers.map(([label, work, text]) => {
    let key = newKey();
    return action(label, async () => {
      await work(row.item, key);
      key = newKey();
    }, { kind: "small", name, confirm: text && { title: `${label}: ${name}`, text } });
  }));
}
