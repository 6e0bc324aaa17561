// Finding an item as one types, or by a scan.

import { get, post } from "../core/api.js";
import { announce, h } from "../core/dom.js";
import { decimal } from "../core/format.js";
import { pages } from "../core/pages.js";
import { wordsOf } from "../core/problem.js";
import { found } from "./scan.js";
import { address } from "../shell.js";
import { plural, t } from "../core/texts.js";
import { empty, heading, notice, table } from "../core/ui.js";

const PAUSE_MILLISECONDS = 200;
const SHOWN = 50;
const STOCK = "/inventory/stock/current";

export async function view({ main, query, signal, navigate }) {
  const input = h("input", { type: "search", id: "search", value: query.get("q") ?? "", autocomplete: "off",
    spellcheck: "false", maxlength: "200", placeholder: t("search.placeholder") });
  const results = h("div", { class: "results" });
  let newest = null;
  let timer = null;

  // Whatever was asked before is not wanted any more: its answer is never shown.
  function ask() {
    newest?.abort();
    newest = new AbortController();
    const mine = newest;
    signal.addEventListener("abort", () => mine.abort());
    return find(input.value.trim(), mine);
  }

  async function find(words, mine) {
    results.setAttribute("aria-busy", "true");
    try {
      const page = await get("/inventory/items", { q: words, sort: "sku", limit: SHOWN }, { signal: mine.signal });
      if (mine !== newest) {
        return;
      }
      show(page, words);
      const address_ = new URL(location.href);
      words ? address_.searchParams.set("q", words) : address_.searchParams.delete("q");
      history.replaceState(null, "", address_);
      await fillStock(page.items, mine);
    } catch (error) {
      if (error.name !== "AbortError" && mine === newest) {
        results.replaceChildren(notice("bad", h("p", null, wordsOf(error)),
          h("button", { type: "button", onclick: ask }, t("again"))));
      }
    } finally {
      if (mine === newest) {
        results.setAttribute("aria-busy", "false");
      }
    }
  }

  function show({ items, next_cursor: more }, words) {
    announce(plural("search.found", items.length, { count: items.length + (more ? "+" : "") }));
    if (items.length === 0) {
      results.replaceChildren(empty(words ? t("search.none", { words }) : t("search.noitems")));
      return;
    }
    const rows = items.map((item) => [
      h("a", { href: address(`/stock/items/${item.id}`) }, item.sku), item.name,
      h("span", { "data-stock": item.id }, "…"), item.unit, item.barcode ?? "",
      item.status === "ACTIVE" ? "" : h("span", { class: "state" }, t(`item.${item.status}`)),
    ]);
    const columns = [[t("sku"), ""], [t("name"), "wide"], [t("onhand"), "number"], [t("unit"), ""], [t("barcode"), ""], [t("status"), ""]];
    results.replaceChildren(table(t("search.results"), columns, rows), more ? h("p", { class: "hint" }, t("search.more", { count: SHOWN })) : "");
  }

  async function fillStock(items, mine) {
    if (items.length === 0) {
      return;
    }
    const found = await post("/inventory/stock/lookup", { ids: items.map(({ id }) => id) }, { signal: mine.signal });
    const of = new Map(found.items.map((stock) => [String(stock.item_id), stock.on_hand]));
    for (const cell of results.querySelectorAll("[data-stock]")) {
      cell.textContent = decimal(of.get(cell.dataset.stock) ?? "0");
    }
  }

  // A location that was scanned: what lies there.
  async function atPlace({ code, name }) {
    const query = { location: code, include_zero: false, limit: SHOWN };
    const page = await get(STOCK, query, { signal });
    const columns = [[t("sku"), ""], [t("name"), "wide"], [t("onhand"), "number"], [t("available"), "number"], [t("unit"), ""]];
    results.replaceChildren(h("h2", null, `${code} · ${name}`), page.items.length === 0 ? empty(t("search.empty"))
      : pages(STOCK, page, { ...query, signal }, (levels) => table(code, columns, levels.map((level) => [
        h("a", { href: address(`/stock/items/${level.item_id}`) }, level.sku), level.name, decimal(level.on_hand),
        decimal(level.available ?? level.on_hand), level.unit]))));
    announce(name);
  }

  // A scanner types a whole code and presses Enter: that leads to the one item that has it.
  async function enter(event) {
    event.preventDefault();
    clearTimeout(timer);
    const words = input.value.trim();
    if (!words) {
      return;
    }
    // the next scan replaces this one
    input.select();
    try {
      const { item, place } = await found(words, false, signal);
      if (item) {
        navigate(`/stock/items/${item.id}`);
        return;
      }
      if (place) {
        newest?.abort();
        await atPlace(place);
        return;
      }
    } catch (error) {
      if (error.name === "AbortError") {
        return;
      }
      // what is shown below says the same
    }
    await ask();
    results.querySelector("a")?.focus();
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE_MILLISECONDS);
  });
  signal.addEventListener("abort", () => clearTimeout(timer));
  // the arrow keys walk from the field through the results and back
  main.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const stops = [input, ...results.querySelectorAll("a")];
    const at = stops.indexOf(document.activeElement);
    if (step && at >= 0 && stops[at + step]) {
      event.preventDefault();
      stops[at + step].focus();
    }
  });
  // a scan needs no click before it
  addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
    if (key.length === 1 && key !== " " && !ctrlKey && !metaKey && !altKey && (target === document.body || target.matches("main a, main h1"))) {
      input.focus();
      input.select();
    }
  }, { signal });
  main.append(heading(t("nav.stock")),
    h("form", { role: "search", onsubmit: enter }, h("label", { for: "search" }, t("search.label")), input), results);
  input.focus();
  await ask();
}
