// Options that only some servers have: their fields are made from the description of the server.

import { find } from "./dom.js";
import { getJson } from "./server.js";
import { has, t } from "./text.js";

// Those that belong on the page; the others have fields of their own, or are for programs.
const SHOWN = ["aspect", "background", "zoom", "captions"];

let fields = {};

export async function readOptions() {
  const description = await getJson("/openapi.json");
  const form = description.paths["/v1/videos"].post.requestBody.content["multipart/form-data"];
  fields = form.schema.properties;
}

export function showOptions() {
  find("#server-options").replaceChildren(...SHOWN.filter((name) => name in fields).map(field));
}

function field(name) {
  const { type, description, examples, default: usual, minimum, maximum } = fields[name];
  const label = document.createElement("label");
  const text = document.createElement("span");
  text.textContent = has(`option_${name}`) ? t(`option_${name}`) : name;
  const input = document.createElement("input");
  input.id = `option-${name}`;
  input.title = description ?? "";
  input.placeholder = usual ?? "";
  if (["number", "integer"].includes(type)) Object.assign(input, { type: "number", min: minimum, max: maximum, step: "any" });
  label.append(text, " ", input);
  if (examples) {
    const list = document.createElement("datalist");
    list.id = `examples-${name}`;
    list.append(...examples.map((value) => new Option(value)));
    input.setAttribute("list", list.id);
    label.append(list);
  }
  return label;
}

// Adds the options that were given to the form of a video.
export function fillInOptions(form) {
  for (const input of document.querySelectorAll("#server-options input")) {
    const value = input.value.trim();
    if (value) form.append(input.id.replace("option-", ""), value);
  }
}
