// The chain over trail and ledger, and its head, to keep elsewhere.

import { get } from "../core/api.js";
import { copied } from "../core/copied.js";
import { h } from "../core/dom.js";
import { moment } from "../core/format.js";
import { pages } from "../core/pages.js";
import { t } from "../core/texts.js";
import { card, empty, heading, loading, table } from "../core/ui.js";

const PATH = "/audit/seals";

export async function view({ main, signal }) {
  const place = h("div", { class: "stack" });
  main.append(heading(t("nav.seals")), h("p", null, t("seals.what")), place);
  await loading(place, () => Promise.all([get(`${PATH}/head`, {}, { signal }), get(PATH, {}, { signal })]), ([head, first]) =>
    (head.position === 0 ? empty(t("audit.none")) : [keeping(head), card(t("seals.last"), pages(PATH, first, { signal }, sealTable))]), { signal });
}

// The file is as `erp verify --head` reads it.
function keeping({ position, link, sealed_at: at }) {
  const head = `${position}:${link}`;
  const href = URL.createObjectURL(new Blob([`${head} ${at}\n`]));
  const name = `erp-head-${position}.txt`;
  return card(t("seals.head"), h("div", { class: "sending" }, h("p", null, t("seals.why")), copied(head, h("a", { class: "button", href, download: name }, t("seals.save"))),
    h("p", null, t("seals.verify")), h("code", { class: "exact" }, `erp verify --head ${name}`)));
}

function sealTable(seals) {
  const columns = [[t("seals.position"), "number"], [t("when"), ""], [t("seals.covers"), ""], [t("seals.link"), ""]];
  return table(t("seals.last"), columns, seals.map((seal) => [seal.position, h("time", { datetime: seal.sealed_at, title: seal.sealed_at }, moment(seal.sealed_at)),
    `${seal.source} ${seal.covers}`, h("code", null, seal.link)]));
}
