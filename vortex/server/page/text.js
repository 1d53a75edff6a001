// The texts of the page in the language of the browser, or the one that was chosen: one file each in languages/.

import { remember, remembered } from "./memory.js";

export const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", fr: "Français", zh: "中文" };

let texts = {};

// Returns a text, in which {name} is replaced by the value of that name.
export function t(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export const has = (key) => key in texts;

function wanted() {
  const chosen = remembered("language");
  if (chosen in LANGUAGES) return chosen;
  const known = navigator.languages.map((name) => name.split("-")[0]).find((name) => name in LANGUAGES);
  return known ?? "en";
}

export async function loadTexts(language = wanted()) {
  texts = await (await fetch(`/page/languages/${language}.json`)).json();
  document.documentElement.lang = language;
  document.title = t("title");
  showTexts(document);
  return language;
}

export async function chooseLanguage(language) {
  remember("language", language);
  await loadTexts(language);
}

// Fills in the texts of all elements below a node that name one.
export function showTexts(node) {
  const each = (attribute, show) => {
    for (const element of node.querySelectorAll(`[${attribute}]`)) show(element, t(element.getAttribute(attribute)));
  };
  each("data-t", (element, text) => { element.textContent = text; });
  each("data-t-label", (element, text) => element.setAttribute("aria-label", text));
  each("data-t-alt", (element, text) => element.setAttribute("alt", text));
  each("data-t-placeholder", (element, text) => element.setAttribute("placeholder", text));
}
