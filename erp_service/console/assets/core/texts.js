// The texts of one language at a time. A further language is one file beside the others and one line here.

const LANGUAGES = {
  en: { name: "English", load: () => import("../texts/en.js") },
  de: { name: "Deutsch", load: () => import("../texts/de.js") },
};

const CHOICE = "erp.console.language";

let current = "en";
let texts = {};

export function languages() {
  return Object.entries(LANGUAGES).map(([code, { name }]) => [code, name]);
}

// The choice, else the first language of the browser that is there; with its region, which decides how numbers look.
export function language() {
  return navigator.languages.find((code) => code.split("-")[0] === current) ?? current;
}

export function languageCode() {
  return current;
}

export async function loadTexts() {
  const wanted = [localStorage.getItem(CHOICE), ...navigator.languages.map((code) => code.split("-")[0]), "en"];
  current = wanted.find((code) => Object.hasOwn(LANGUAGES, code ?? ""));
  texts = (await LANGUAGES[current].load()).default;
  document.documentElement.lang = current;
}

export function chooseLanguage(code) {
  localStorage.setItem(CHOICE, code);
  return loadTexts();
}

// The text of a name, with {values} put in. A value is text: it may stand before or after any other.
export function t(name, values = {}) {
  const text = texts[name];
  if (text === undefined) {
    throw new Error(`no text ${name} in ${current}`);
  }
  return text.replace(/\{(\w+)\}/g, (_, key) => String(values[key]));
}

export function hasText(name) {
  return Object.hasOwn(texts, name);
}

// The form of the language for a number: t.few and the like. Names end in .one and .other.
export function plural(name, number, values = {}) {
  const rule = new Intl.PluralRules(current).select(number);
  return t(hasText(`${name}.${rule}`) ? `${name}.${rule}` : `${name}.other`, values);
}
