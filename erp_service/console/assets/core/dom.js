// Elements without a library: h("button", {type: "button", onclick: save}, "Save").

const SVG = "http://www.w3.org/2000/svg";

// Texts are always text: nothing here, or anywhere in the console, reads a string as HTML.
function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) {
      continue;
    }
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(3).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export function h(name, properties, ...children) {
  return fill(document.createElement(name), properties, children);
}

export function svg(name, properties, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

let numbers = 0;

// An id that no other element of this page has.
export function newId(prefix) {
  numbers += 1;
  return `${prefix}-${numbers}`;
}

// What a screen reader says without moving the focus.
export function announce(text) {
  const region = document.getElementById("announcements");
  if (region) {
    region.textContent = "";
    setTimeout(() => { region.textContent = text; }, 50);
  }
}
