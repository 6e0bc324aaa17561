// The few building blocks that all views share.

import { h, newId } from "./dom.js";
import { Offline, Problem, wordsOf } from "./problem.js";
import { t } from "./texts.js";

export function heading(text, ...aside) {
  return h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, text), aside);
}

export function card(title, ...children) {
  const id = newId("card");
  return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), children);
}

export function notice(kind, ...children) {
  return h("div", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, children);
}

export function empty(text) {
  return h("p", { class: "empty" }, text);
}

// `pairs`: [name, value]. Those that are false are left out.
export function facts(pairs) {
  return h("dl", { class: "facts-of" }, pairs.filter(Boolean).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

// `columns`: [title, "number" or "" or "wide"]; `rows` of cells. It scrolls by itself where it is too wide.
export function table(caption, columns, rows) {
  const head = columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title));
  const lines = rows.map((cells) => h("tr", null, cells.map((cell, index) => h("td", { class: columns[index][1] }, cell))));
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    h("table", null, h("caption", { class: "hidden" }, caption), h("thead", null, h("tr", null, head)),
      h("tbody", null, lines)));
}

// A labelled control with a place for what is wrong with it.
export function field(label, control, { hint } = {}) {
  const id = control.id || newId("field");
  control.id = id;
  const fault = h("p", { class: "fault", id: `${id}-fault` });
  const words = hint && h("p", { class: "hint", id: `${id}-hint` }, hint);
  control.setAttribute("aria-describedby", [hint && `${id}-hint`, `${id}-fault`].filter(Boolean).join(" "));
  const element = h("div", { class: "field" }, h("label", { for: id }, label), control, words, fault);
  return {
    element,
    control,
    say(text) {
      fault.textContent = text ?? "";
      control.setAttribute("aria-invalid", text ? "true" : "false");
    },
  };
}

// Puts each fault of a problem at its field, and returns those that no field is there for.
export function placeFaults(problem, fields) {
  const rest = [];
  let first = null;
  for (const [name, detail] of problem.fields) {
    const found = fields[name];
    if (found) {
      found.say(detail);
      first ??= found.control;
    } else {
      rest.push(`${name}: ${detail}`);
    }
  }
  first?.focus();
  first?.select?.();
  return rest;
}

// Loads, and shows one of: that it loads, what was loaded, or what went wrong with a way to try again. What was shown
// stays while it loads again.
export async function loading(container, load, render, { signal, quiet = false } = {}) {
  container.setAttribute("aria-busy", "true");
  if (!quiet) {
    container.replaceChildren(h("p", { class: "loading" }, t("loading")));
  }
  try {
    const data = await load();
    if (!signal?.aborted) {
      container.replaceChildren(...[render(data)].flat(Infinity));
    }
  } catch (error) {
    if (error.name === "AbortError" || signal?.aborted) {
      return;
    }
    const again = () => loading(container, load, render, { signal });
    if (error instanceof Offline) {
      addEventListener("online", again, { once: true, signal });
    }
    container.replaceChildren(notice("bad", h("p", null, wordsOf(error)),
      h("button", { type: "button", onclick: again }, t("again"))));
  } finally {
    container.setAttribute("aria-busy", "false");
  }
}

// Calls `work` every so many seconds while the page can be seen.
export function every(seconds, work, signal) {
  const timer = setInterval(() => document.visibilityState === "visible" && work(), seconds * 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
}

// A button that does something and can fail: it waits for `work`, and says below itself what went wrong. With `confirm`,
// {title, text}, it asks first; `kind` is a class of buttons.
export function action(label, work, { kind = "", confirm, name } = {}) {
  const said = h("div");
  const button = h("button", { type: "button", class: kind, "aria-label": name && `${label}: ${name}`, onclick: async () => {
    if (confirm && !await asked(confirm.title, confirm.text, label)) {
      return;
    }
    button.disabled = true;
    said.replaceChildren();
    try {
      await work();
    } catch (error) {
      if (error.name !== "AbortError") {
        said.replaceChildren(notice("bad", wordsOf(error)));
      }
    } finally {
      button.disabled = false;
    }
  } }, label);
  return h("div", { class: "action" }, button, said);
}

// Asks before something that cannot be taken back. True if the answer is yes.
export function asked(title, text, yes) {
  return new Promise((resolve) => {
    const id = newId("asked");
    const dialog = h("dialog", { "aria-labelledby": id, onclose: () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    } },
    h("form", { method: "dialog" }, h("h2", { id }, title), h("p", null, text),
      h("div", { class: "actions" }, h("button", { value: "yes", class: "primary" }, yes),
        h("button", { value: "no", autofocus: true }, t("no")))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

// `options`: [value, text]. For `field`.
export function select(name, options, chosen, properties = {}) {
  return h("select", { name, ...properties }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
}

// A form that sends: `work` gets nothing and returns when it is done. A refusal stands at the fields that it names,
// by the name that the API has for them; the rest stands above the button.
export function sendingForm(fields, label, work, ...children) {
  const said = h("div");
  const button = h("button", { type: "submit", class: "primary" }, label);
  return h("form", { class: "sending", novalidate: true, onsubmit: async (event) => {
    event.preventDefault();
    if (button.disabled) {
      return;
    }
    button.disabled = true;
    said.replaceChildren();
    Object.values(fields).forEach((each) => each.say(""));
    try {
      await work();
    } catch (error) {
      if (error.name !== "AbortError") {
        const rest = error instanceof Problem ? placeFaults(error, fields) : [];
        said.replaceChildren(notice("bad", h("p", null, wordsOf(error)), rest.map((text) => h("p", null, text))));
      }
    } finally {
      button.disabled = false;
    }
  } }, children, said, h("div", { class: "actions" }, button));
}
