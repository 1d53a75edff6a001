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

// ``face``: the number of one of several faces, from left to right; the largest if there is none.
export async function usePicture(blob, changed, face = null) {
  const number = ++asked;
  last = blob;
  portrait = null;
  changed();
  if (blob.type.startsWith("video/")) {
    view.hidden = true;
    find("#face-label").hidden = true;
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
    if (face) form.append("face", face);
    const found = await (await call("/v1/portraits", { method: "POST", body: form })).json();
    // A later picture may have been chosen meanwhile.
    if (number !== asked) return;
    await show(blob, found);
    if (!face) await offerFaces(found, changed);
    else drawFaces(face);
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

let faces = [];

// Where a picture shows several faces, the server numbers them, and one can be chosen in a list or by a click.
async function offerFaces(found, changed) {
  faces = [];
  find("#face-label").hidden = true;
  const listed = (await getJson(`/v1/portraits/${found.id}/faces`)).faces;
  if (portrait !== found || listed.length < 2) return;
  faces = listed.map((face) => ({ ...face, box: face.box_px.map((edge) => edge * (view.width / found.width_px)) }));
  const chosen = faces.find(({ largest }) => largest).number;
  find("#face").replaceChildren(...faces.map(({ number }) => new Option(t("face_number", { number }), number)));
  find("#face").value = chosen;
  find("#face").onchange = (event) => usePicture(last, changed, event.target.value);
  find("#face-label").hidden = false;
  drawFaces(chosen);
}

// Numbers the faces that are not chosen.
function drawFaces(chosen) {
  const pen = view.getContext("2d");
  for (const { number, box: [x0, y0, x1] } of faces.filter((face) => String(face.number) !== String(chosen))) {
    const side = Math.max(view.width / 25, 14);
    pen.font = `bold ${0.8 * side}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillStyle = "#000c";
    pen.fillRect((x0 + x1 - side) / 2, y0 - side, side, side);
    pen.fillStyle = "#fff";
    pen.fillText(number, (x0 + x1) / 2, y0 - side / 2);
  }
}

// A click on a face that is not chosen chooses it; elsewhere it opens the choice of a file, as a label does.
view.addEventListener("click", (event) => {
  const scale = view.width / view.clientWidth;
  const [x, y] = [event.offsetX * scale, event.offsetY * scale];
  const hit = faces.find(({ box: [x0, y0, x1, y1] }) => x >= x0 && x <= x1 && y >= y0 && y <= y1);
  if (!hit || find("#face").value === String(hit.number)) return;
  event.preventDefault();
  find("#face").value = hit.number;
  find("#face").dispatchEvent(new Event("change"));
});

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
