// One count: counting, what differs from the books, and how it ends.

import { get, newKey, post, put } from "../core/api.js";
import { h } from "../core/dom.js";
import { count as number, decimal, moment } from "../core/format.js";
import { pages } from "../core/pages.js";
import { address, may } from "../shell.js";
import { t } from "../core/texts.js";
import { action, asked, card, empty, every, field, heading, loading, notice, sendingForm, table } from "../core/ui.js";
import { openAt, PATH } from "./counts.js";
import { counting } from "./counting.js";
import { input } from "./item-entry.js";

const SECONDS = 5;
const LIMIT = 50;
const MONEY = { least: 2, most: 2 };
const KINDS = { todo: {}, lines: {}, differences: { differing: true }, moved: { moved: true } };

// "–" for what is not known.
const signed = (value, more) => decimal(value, { signDisplay: "exceptZero", ...more });

// The column of what can be done.
const toDo = () => [h("span", { class: "hidden" }, t("count.do")), ""];

export async function view({ main, me, params: [id], query, signal, navigate }) {
  const path = `${PATH}/${id}`;
  const place = h("div", { class: "stack" });
  const again = () => navigate(`/stock/counts/${id}?show=differences`, { replace: true });
  main.append(place);
  let room = null;
  const leave = (to) => {
    entry.carry();
    navigate(`/stock/counts/${to.id}`);
  };
  const entry = counting(path, { me, signal, changed: () => room.refresh(),
    elsewhere: (there, said) => elsewhere(there, said, room.count, signal, leave) });
  // what is scanned while it loads waits, too
  await entry.during(() => loading(place, () => get(path, {}, { signal }), (count) => {
    room = lists(count, { path, query, signal, entry, again });
    const isOpen = count.status === "OPEN";
    setTimeout(() => entry.form.isConnected && entry.begin());
    return [heading(t("count.title", { location: count.location }), h("span", { class: "state" }, t(`count.${count.status}`))),
      h("p", { class: "hint" }, [count.reference_no, count.notes,
        t("count.opened.by", { name: count.user_name ?? "–", time: moment(count.created_at) }),
        count.ended_at && t("count.ended.at", { time: moment(count.ended_at) })].filter(Boolean).join(" · ")),
      count.transaction_id && h("p", null, h("a", { href: address(`/stock/ledger/${count.transaction_id}`) }, t("doc"))) || "",
      isOpen ? entry.form : "", room.element, isOpen && may(me, "ADMIN") ? ending(path, again, signal) : ""];
  }, { signal }));
}

// A location that was scanned: the count that is open there, or a new one.
async function elsewhere({ code }, said, here, signal, leave) {
  if (code === here.location) {
    said.replaceChildren(notice("info", t("count.here", { location: code })));
    return;
  }
  const there = await openAt(code, signal);
  if (there) {
    leave(there);
  } else if (await asked(t("count.open"), t("count.open.at", { location: code }), t("count.open"))) {
    leave(await post(PATH, { location: code }, { key: newKey(), signal }));
  }
}

// What was counted, and what not yet. The books are not shown until somebody asks for the differences.
function lists(first, { path, query, signal, entry, again }) {
  const isOpen = first.status === "OPEN";
  const kinds = Object.keys(KINDS).filter((kind) => isOpen || kind === "lines" || kind === "differences");
  let shown = kinds.find((kind) => kind === query.get("show")) ?? kinds[0];
  let newest = null;
  const links = kinds.map((kind) => h("a", { href: `?show=${kind}`, onclick: (event) => choose(event, kind) }, t(`count.${kind}`)));
  const tabs = h("nav", { class: "tabs", "aria-label": t("nav.counts") }, links);
  const place = h("div", { class: "stack" });
  const room = { count: first, element: h("section", { class: "card stack", "aria-label": t("nav.counts") }, tabs, place), refresh };

  function choose(event, kind) {
    event.preventDefault();
    shown = kind;
    draw();
  }

  function draw({ quiet = false } = {}) {
    links.forEach((link) => link.removeAttribute("aria-current"));
    links[kinds.indexOf(shown)].setAttribute("aria-current", "page");
    newest?.abort();
    newest = new AbortController();
    const mine = newest.signal;
    const source = `${path}/${shown === "todo" ? "uncounted" : "lines"}`;
    const filter = { ...KINDS[shown], limit: LIMIT };
    loading(place, async () => {
      const [count, page] = await Promise.all([get(path, {}, { signal: mine }), get(source, filter, { signal: mine })]);
      room.count = count;
      return page;
    }, (page) => [shown === "differences" || shown === "moved" ? figures(room.count) : "",
      page.items.length === 0 ? empty(t(`count.${shown}.none`)) : pages(source, page, { ...filter, signal }, rows)], { signal: mine, quiet });
  }

  function rows(lines) {
    const open = room.count.status === "OPEN";
    const name = [[t("sku"), ""], [t("name"), "wide"]];
    const who = [[t("count.by"), ""], [t("when"), ""]];
    const of = ({ user_name: by, counted_at: at }) => [by ?? "–", at === null ? "–" : moment(at)];
    const button = ({ sku }, label, work) =>
      h("button", { type: "button", class: "small", "aria-label": `${label}: ${sku}`, onclick: work }, label);
    const count = (line, label) => open && button(line, label, () => entry.again(line.sku));
    if (shown === "todo") {
      return table(t("count.todo"), [...name, [t("barcode"), ""], toDo()], lines.map((line) =>
        [line.sku, line.name, line.barcode ?? "", count(line, t("count.do"))]));
    }
    if (shown === "lines") {
      return table(t("count.lines"), [...name, [t("count.lines"), "number"], [t("unit"), ""], ...who, toDo()], lines.map((line) =>
        [line.sku, line.name, decimal(line.counted), line.unit, ...of(line),
          [count(line, t("count.again")), " ", open && button(line, t("count.out"), () => takeOut(line))]]));
    }
    return table(t("count.differences"), [...name, [t("count.expected"), "number"], [t("count.lines"), "number"], [t("count.difference"), "number"],
      [t("unit"), ""], [t("value"), "number"], ...who, toDo()], lines.map((line) =>
      [h("a", { href: address(`/stock/items/${line.item_id}`) }, line.sku), line.name, decimal(line.expected), decimal(line.counted),
        signed(line.difference), line.unit, signed(line.value, MONEY), ...of(line), count(line, t("count.again"))]));
  }

  async function takeOut({ sku, name }) {
    await entry.during(async () => {
      if (await asked(t("count.out"), t("count.out.text", { name }), t("count.out"))) {
        await put(`${path}/lines`, { lines: [{ sku, counted: null }] }, { key: newKey() });
        draw();
      }
    });
  }

  // Others count, too: what is shown follows, unless it is being read further down, or has the focus.
  async function refresh() {
    if (place.contains(document.activeElement) || place.querySelectorAll("tbody tr").length > LIMIT) {
      return;
    }
    const count = await get(path, {}, { signal }).catch(() => room.count);
    if (count.status !== "OPEN") {
      // what is half typed stays to be seen: saving it says that the count has ended
      signal.aborted || entry.isFilled() || again();
    } else if (count.version !== room.count.version || count.moved !== room.count.moved) {
      draw({ quiet: true });
    }
  }

  draw();
  if (isOpen) {
    every(SECONDS, refresh, signal);
  }
  return room;
}

function figures({ lines, differing, moved, found_value: found, missing_value: missing }) {
  const all = [[t("count.lines"), number(lines)], [t("count.differences"), number(differing)], [t("count.found"), signed(found, MONEY)],
    [t("count.missing"), signed(missing, MONEY)], moved !== null && [t("count.moved"), number(moved)]].filter(Boolean);
  return h("dl", { class: "figures" }, all.map(([name, text]) => h("div", null, h("dt", null, name), h("dd", null, text))));
}

// Posting and cancelling, for those who may.
function ending(path, again, signal) {
  const tick = (name) => h("label", { class: "tick" }, h("input", { type: "checkbox", name }), t(`count.${name}`));
  const [moved, zero] = [tick("accept"), tick("zero")];
  const fields = { reason: field(t("reason"), input("reason", { maxlength: "500" })) };
  const named = h("div");
  let key = newKey();
  const form = sendingForm(fields, t("count.post"), async () => {
    named.replaceChildren();
    const { lines, differing, found_value: found, missing_value: missing } = await get(path, {}, { signal });
    const question = t("count.post.text", { lines: number(lines), differing: number(differing), found: signed(found, MONEY),
      missing: signed(missing, MONEY) });
    if (!await asked(t("count.post"), zero.firstChild.checked ? `${question} ${t("count.zero.text")}` : question, t("count.post"))) {
      return;
    }
    const body = { accept_moved: moved.firstChild.checked, uncounted: zero.firstChild.checked ? "zero" : null,
      reason: fields.reason.control.value.trim() || null };
    try {
      await post(`${path}/post`, body, { key, signal });
    } catch (error) {
      key = error.isUncertain === false ? newKey() : key;
      if (error.slug === "stock-moved") {
        named.replaceChildren(movedLines(error.document.lines));
      }
      throw error;
    }
    again();
  }, fields.reason.element, moved, zero, named);
  return card(t("count.end"), h("div", { class: "stack" }, form, h("div", { class: "actions" }, action(t("count.cancel"), async () => {
    await post(`${path}/cancel`, undefined, { key: newKey(), signal });
    again();
  }, { confirm: { title: t("count.cancel"), text: t("count.cancel.text") } }))));
}

function movedLines(lines) {
  const columns = [[t("sku"), ""], [t("count.expected"), "number"], [t("count.lines"), "number"], [t("onhand"), "number"], toDo()];
  return table(t("count.moved"), columns, lines.map((line) =>
    [line.sku, decimal(line.expected), decimal(line.counted ?? ""), decimal(line.on_hand), line.count_again ? t("count.must") : ""]));
}
