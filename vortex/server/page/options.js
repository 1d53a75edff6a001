// Options that only some servers have: their fields are made from the description of the server.

import { find } from "./dom.js";
import { getJson } from "./server.js";
import { has, t } from "./text.js";

// Those that belong on the page; the others have fields of their own, or are for programs.
const FRAMING = ["aspect", "zoom", "position", "background", "background_picture"];
const SHOWN = [...FRAMING, "format", "captions"];
// Formats without sound, whose lip-sync cannot be measured.
const SILENT = ["gif", "webp"];

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
  const { type, format, description, examples, enum: choices, default: usual, minimum, maximum } = fields[name];
  const label = document.createElement("label");
  const text = document.createElement("span");
  text.textContent = has(`option_${name}`) ? t(`option_${name}`) : name;
  const input = document.createElement(choices ? "select" : "input");
  input.id = `option-${name}`;
  input.title = description ?? "";
  if (choices) input.append(...choices.map((value) => new Option(value, value, false, value === usual)));
  else input.placeholder = usual ?? examples?.[0] ?? "";
  if (format === "binary") Object.assign(input, { type: "file", accept: "image/*" });
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

// A clip keeps its own frames, and only a text that is typed here has words for captions.
export function enableOptions({ clip, text }) {
  for (const input of document.querySelectorAll("#server-options :is(input, select)")) {
    const name = nameOf(input);
    input.disabled = (clip && FRAMING.includes(name)) || (!text && name === "captions");
  }
}

const nameOf = (input) => input.id.replace("option-", "");

// Whether the video will have sound.
export const hasSound = () => !SILENT.includes(document.querySelector("#option-format")?.value);

// Adds the options that were given to the form of a video.
export function fillInOptions(form) {
  for (const input of document.querySelectorAll("#server-options :is(input, select):enabled")) {
    const value = input.files?.[0] ?? input.value.trim();
    if (value) form.append(nameOf(input), value);
  }
}
