// Names such as `item.updated` in words. The texts have one string of them; what is not in it reads as it stands.

import { t } from "../core/texts.js";

export function wordOf(name) {
  const words = new Map(t("audit.words").split(", ").map((pair) => pair.split("=")));
  return words.get(name) ?? name.replaceAll("_", " ");
}

export function wordsOf(name) {
  const words = name.split(".").map(wordOf).join(" ");
  return words[0].toUpperCase() + words.slice(1);
}
