// Makes what is shown equal to what was drawn anew, in the elements that are there: the focus stays, and what is chosen.
// Lines with a data-key are the same line wherever they stand.

import { h } from "../core/dom.js";
import { wordsOf } from "../core/problem.js";
import { every, loading, notice } from "../core/ui.js";

const KEPT = new Set(["id", "aria-labelledby"]);

export function patch(shown, drawn) {
  if (shown.nodeName !== drawn.nodeName) {
    shown.replaceWith(drawn);
  } else if (shown.nodeType === Node.TEXT_NODE) {
    // to set it again would undo the viewer's selection
    if (shown.data !== drawn.data) {
      shown.data = drawn.data;
    }
  } else {
    attributes(shown, drawn);
    children(shown, [...drawn.childNodes]);
  }
}

function attributes(shown, drawn) {
  for (const name of new Set([...shown.getAttributeNames(), ...drawn.getAttributeNames()])) {
    const value = drawn.getAttribute(name);
    if (!KEPT.has(name)) {
      value === null ? shown.removeAttribute(name) : shown.setAttribute(name, value);
    }
  }
}

function children(parent, drawn) {
  const keyOf = (node) => node.dataset?.key;
  const keys = drawn.map(keyOf);
  [...parent.children].filter((child) => keyOf(child) && !keys.includes(keyOf(child))).forEach((child) => child.remove());
  drawn.forEach((child, index) => {
    const there = parent.childNodes[index] ?? null;
    const same = keys[index] ? [...parent.children].find((each) => keyOf(each) === keys[index]) : there;
    if (same !== there || !same) {
      parent.insertBefore(same ?? child, there);
    }
    if (same) {
      patch(same, child);
    }
  });
  while (parent.childNodes.length > drawn.length) {
    parent.lastChild.remove();
  }
}

// `keys` tell the lines of a table apart.
export function keyed(element, keys) {
  element.querySelectorAll("tbody tr").forEach((line, index) => { line.dataset.key = keys[index]; });
  return element;
}

// Shows in `place` what `load` gives, and again every few seconds. If that fails, `said` says so, and what was seen last
// stays. `again` does it at once.
export function live(place, load, draw, seconds, signal) {
  const said = h("div");
  const again = async () => {
    try {
      const data = await load();
      said.replaceChildren();
      patch(place, h("div", { class: place.className, "aria-busy": "false" }, draw(data)));
    } catch (error) {
      if (!signal.aborted) {
        said.replaceChildren(notice("bad", wordsOf(error)));
      }
    }
  };
  every(seconds, again, signal);
  return { said, again, shown: loading(place, load, draw, { signal }) };
}
