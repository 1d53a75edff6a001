// The characters, each with a small moving picture: a row of presets.webp, which scripts/preset_pictures.py makes.

import { find } from "./dom.js";
import { remember, remembered } from "./memory.js";
import { t } from "./text.js";

let names = [];

export function showPresets(given = names) {
  names = given;
  const wanted = chosenPreset() ?? remembered("preset") ?? names[0];
  const choices = names.map((name, row) => choice(name, row));
  find("#presets").replaceChildren(find("#presets legend"), ...choices);
  choosePreset(names.includes(wanted) ? wanted : names[0]);
}

export const chosenPreset = () => document.querySelector("[name=preset]:checked")?.value;

export const choosePreset = (name) => { find(`[name=preset][value=${name}]`).checked = true; };

function choice(name, row) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "preset", value: name });
  input.onchange = () => remember("preset", name);
  const shown = document.createElement("span");
  const face = document.createElement("i");
  face.style.backgroundPositionY = `-${row * 4}rem`;
  const hint = document.createElement("small");
  hint.textContent = t(`preset_${name}_hint`);
  shown.append(face, t(`preset_${name}`), hint);
  label.append(input, shown);
  return label;
}
