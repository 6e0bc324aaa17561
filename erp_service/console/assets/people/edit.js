// A form for values that others may change meanwhile.

import { change, read } from "../core/api.js";
import { announce, h } from "../core/dom.js";
import { elements } from "./fields.js";
import { t } from "../core/texts.js";
import { notice, sendingForm } from "../core/ui.js";

// `known` is what `read` has answered for `path`, and is kept up to date. `toText(value, name)` is how a control shows a
// value, `toValue` the reverse, undefined for what is no number. Only what was changed is sent, if `ask` says yes to it.
export function editForm(path, known, fields, { toText = (value) => value ?? "", toValue = (text) => text, ask = () => true, done = () => {} } = {}) {
  const said = h("div");
  const shown = {};
  const isChanged = (name) => fields[name].control.value !== shown[name];
  const names = Object.keys(fields);

  function show(name) {
    shown[name] = toText(known.data[name], name);
    fields[name].control.value = shown[name];
  }

  // What others have set stands at the fields that were changed here too, and in the others.
  async function meet() {
    Object.assign(known, await read(path));
    for (const name of names) {
      const text = toText(known.data[name], name);
      if (!isChanged(name)) {
        show(name);
      } else if (text !== shown[name]) {
        shown[name] = text;
        fields[name].say(t("people.meanwhile", { value: text || "–" }));
      }
    }
  }

  names.forEach(show);
  return sendingForm(fields, t("people.save"), async () => {
    said.replaceChildren();
    const body = Object.fromEntries(names.filter(isChanged).map((name) => [name, toValue(fields[name].control.value.trim(), name)]));
    const unread = names.find((name) => name in body && body[name] === undefined);
    if (unread) {
      fields[unread].say(t("field.number"));
      fields[unread].control.focus();
      return;
    }
    if (!await ask(body)) {
      return;
    }
    try {
      Object.assign(known, await change(path, body, known.etag));
    } catch (error) {
      if (error.slug === "stale") {
        await meet();
      }
      throw error;
    }
    names.forEach(show);
    said.replaceChildren(notice("good", t("people.saved")));
    announce(t("people.saved"));
    done(known.data);
  }, elements(fields), said);
}
