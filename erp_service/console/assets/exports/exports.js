// Exports: a new one, and all that there are.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { zone } from "../core/format.js";
import { requestForm } from "./request.js";
import { exportList } from "./running.js";
import { t } from "../core/texts.js";
import { card, heading, loading, notice, sendingForm } from "../core/ui.js";

export async function view({ main, me, signal }) {
  const place = h("div");
  const list = exportList(me, signal, true);
  main.append(heading(t("exports")), h("p", { class: "hint" }, t("exports.hint", { zone: zone() })), card(t("exports.new"), place), card(t("exports"), list.element));
  await loading(place, () => get("/exports/datasets", {}, { signal }), ({ items }) =>
    form(items.filter(({ allowed }) => allowed), list, signal), { signal });
}

function form(datasets, list, signal) {
  const request = requestForm(datasets, { signal });
  const said = h("div");
  return sendingForm(request.fields, t("exports.submit"), async () => {
    said.replaceChildren();
    const job = await request.send("/exports/jobs", request.body());
    said.replaceChildren(notice("good", t(job.deduplicated ? "exports.twin" : "exports.submitted")));
    await list.renew();
  }, request.element, said);
}
