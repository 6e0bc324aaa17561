// Where somebody is signed in, and ending that.

import { get, remove } from "../core/api.js";
import { h } from "../core/dom.js";
import { moment } from "../core/format.js";
import { pages } from "../core/pages.js";
import { t } from "../core/texts.js";
import { action, empty, loading, table } from "../core/ui.js";

const PATH = "/auth/sessions";
// the first that stands in what the browser calls itself
const BROWSERS = ["Edg", "Firefox", "Chrome", "Safari"];
const SYSTEMS = ["Android", "iPhone", "iPad", "Windows", "Mac", "Linux"];

// Of another person's, `userId` says whose.
export function signIns(signal, userId) {
  const place = h("div");
  const query = { user_id: userId, limit: 50 };
  const load = () => get(PATH, query, { signal });
  const again = () => loading(place, load, draw, { signal, quiet: true });

  function draw(first) {
    const title = t(userId ? "signins.all" : "signins.others");
    const end = async () => {
      await remove(userId ? `${PATH}?user_id=${userId}` : PATH);
      await again();
    };
    return first.items.length === 0 ? empty(t("signins.none")) : h("div", { class: "stack" }, pages(PATH, first, { ...query, signal }, list),
      (userId || first.items.length > 1) && action(title, end, { confirm: { title, text: t("signins.ask") } }));
  }

  const list = (each) => table(t("signins"), ["signins.device", "signins.address", "signins.since", "signins.used", "status"]
    .map((name) => [t(name), ""]), each.map((one) => [
    h("span", { title: one.user_agent ?? "" }, deviceOf(one.user_agent)), one.address ?? "–", moment(one.created_at), moment(one.last_used_at),
    one.current ? h("strong", null, t("signins.this")) : action(t("signins.end"), async () => {
      await remove(`${PATH}/${one.id}`);
      await again();
    }, { kind: "small", name: `${deviceOf(one.user_agent)}, ${moment(one.created_at)}` }),
  ]));

  loading(place, load, draw, { signal });
  return place;
}

function deviceOf(agent) {
  const named = (names) => names.find((name) => agent?.includes(name));
  return [named(BROWSERS)?.replace("Edg", "Edge"), named(SYSTEMS)].filter(Boolean).join(", ") || agent || "–";
}
