// The picture: chosen, dropped, pasted, photographed or the example; the server finds the face, and the page shows its box.

import { find, statusLine } from "./dom.js";
import { remember, remembered } from "./memory.js";
import { call, getJson } from "./server.js";
import { t } from "./text.js";

const view = find("#portrait-view");

export const showStatus = statusLine("#portrait-status");

// What the server knows of the picture, or { clip } for a video, which is sent with each request.
export let portrait = null;

let last = null;
let asked = 0;

export async function usePicture(blob, changed) {
  const number = ++asked;
  last = blob;
  portrait = null;
  changed();
  if (blob.type.startsWith("video/")) {
    view.hidden = true;
    portrait = { clip: blob };
    showStatus(t("clip_chosen", { name: blob.name ?? t("source_video") }), "good");
    changed();
    return;
  }
  showStatus(t("face_looking"));
  try {
    const form = new FormData();
    form.append("portrait", blob, "portrait");
    form.append("force_face", find("#force-face").checked);
    const found = await (await call("/v1/portraits", { method: "POST", body: form })).json();
    // A later picture may have been chosen meanwhile.
    if (number !== asked) return;
    await show(blob, found);
  } catch (error) {
    if (number !== asked) return;
    view.hidden = true;
    find("#force-face-label").hidden = false;
    showStatus(error.message, "bad");
  }
  changed();
}

// Tries a picture again that was refused, when what is accepted has changed.
export const tryAgain = (changed) => { if (last && !portrait) usePicture(last, changed); };

async function show(blob, found) {
  await draw(blob, found);
  portrait = found;
  remember("portrait", found.id);
  showStatus([t("face_found"), ...found.notes].join(" "), "good");
}

// Shows a portrait that the server still has, such as that of the visit before; returns whether it has it.
export async function useKnown(id, changed) {
  try {
    const found = await getJson(`/v1/portraits/${id}`);
    await show(await (await call(`/v1/portraits/${id}/picture.jpg`)).blob(), found);
    changed();
    return true;
  } catch {
    return false;
  }
}

export async function restorePicture(changed) {
  const id = remembered("portrait");
  if (id && !(await useKnown(id, changed))) remember("portrait", null);
}

async function draw(blob, found) {
  const picture = await createImageBitmap(blob, { imageOrientation: "from-image" });
  const scale = Math.min(1, 900 / Math.max(picture.width, picture.height));
  view.width = Math.round(picture.width * scale);
  view.height = Math.round(picture.height * scale);
  const pen = view.getContext("2d");
  pen.drawImage(picture, 0, 0, view.width, view.height);
  const [x0, y0, x1, y1] = found.face_box_px.map((edge) => edge * (view.width / found.width_px));
  const radius = 0.08 * (x1 - x0);
  for (const [colour, width] of [["#000a", 6], ["#ffb86b", 3]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width * Math.max(1, view.width / 400);
    pen.beginPath();
    pen.roundRect(x0, y0, x1 - x0, y1 - y0, radius);
    pen.stroke();
  }
  view.hidden = false;
}

let camera = null;

export async function openCamera() {
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } } });
  } catch {
    showStatus(t("camera_none"), "bad");
    return;
  }
  find("#camera-view").srcObject = camera;
  find("#camera-box").hidden = false;
  find("#camera-take").focus();
}

export function closeCamera() {
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = null;
  find("#camera-view").srcObject = null;
  find("#camera-box").hidden = true;
}

export async function takePhoto(changed) {
  const video = find("#camera-view");
  if (!video.videoWidth) return;
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  closeCamera();
  await usePicture(await canvas.convertToBlob({ type: "image/png" }), changed);
}
