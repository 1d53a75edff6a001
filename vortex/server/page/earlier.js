// The list of earlier videos: played, repeated, and deleted with a while in which that can be undone.

import { find } from "./dom.js";
import { call, getJson } from "./server.js";
import { has, t } from "./text.js";
import * as video from "./video.js";

const UNDO_MS = 8000;
const SHOWN = 10;

let onRepeat = () => {};
// The video that is deleted when its time to undo ends.
let leaving = null;

export const whenRepeated = (call) => { onRepeat = call; };

export async function listEarlier() {
  const { videos } = await getJson(`/v1/videos?limit=${SHOWN + 1}`);
  const shown = videos.filter(({ id }) => id !== leaving?.id).slice(0, SHOWN);
  find("#earlier-card").hidden = !shown.length;
  find("#earlier").replaceChildren(...shown.map(item));
}

function item(made) {
  const row = document.createElement("li");
  const { options } = made;
  const title = options.name || options.text || t("video_title");
  const when = new Date(made.created_at).toLocaleString(document.documentElement.lang);
  const facts = [when, made.report ? t("seconds", { count: made.report.duration_s.toFixed(1) }) : t(`state_${made.state}`), lookOf(options)];
  const what = element("span", "what");
  what.append(element("b", "", title), element("span", "facts", facts.join(", ")));
  if (options.text && options.text !== title) what.append(element("q", "", options.text));
  if (made.error) what.append(element("span", "bad", made.error.message));
  row.append(picture(made), what, ...actions(made, title));
  return row;
}

function lookOf(options) {
  if (options.preset == null) return t("from_video");
  const [name, strength] = options.preset.split(":");
  const shown = has(`preset_${name}`) ? t(`preset_${name}`) : options.preset;
  return strength && Number(strength) !== 1 ? `${shown} ${strength}` : shown;
}

function actions(made, title) {
  const active = ["queued", "running"].includes(made.state);
  return [
    button(made.state === "done" ? "play" : "show", title, () => video.open(made)),
    button("repeat", title, () => onRepeat(made)),
    active ? null : button("delete", title, () => remove(made, title)),
  ].filter(Boolean);
}

function element(name, kind, text = "") {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

function button(key, title, act) {
  const made = element("button", "", t(key));
  made.type = "button";
  made.setAttribute("aria-label", `${t(key)}: ${title}`);
  made.onclick = act;
  return made;
}

function picture(made) {
  const image = element("img", "thumbnail");
  image.alt = "";
  if (made.state === "done") {
    // With the key, which an address of a picture cannot carry.
    call(`/v1/videos/${made.id}/thumbnail.jpg`).then((answer) => answer.blob()).then((blob) => {
      image.onload = () => URL.revokeObjectURL(image.src);
      image.src = URL.createObjectURL(blob);
    }).catch(() => {});
  }
  return image;
}

export async function remove(made, title) {
  await finish();
  leaving = { id: made.id, timer: setTimeout(finish, UNDO_MS) };
  video.close(made.id);
  find("#toast-text").textContent = t("deleted", { name: title });
  find("#toast").hidden = false;
  find("#undo").focus();
  await listEarlier();
}

export async function undo() {
  clearTimeout(leaving?.timer);
  leaving = null;
  find("#toast").hidden = true;
  await listEarlier();
}

// Deletes for good what waits for that; the request outlives the page.
async function finish() {
  if (!leaving) return;
  const { id, timer } = leaving;
  clearTimeout(timer);
  leaving = null;
  find("#toast").hidden = true;
  await call(`/v1/videos/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

window.addEventListener("pagehide", finish);
