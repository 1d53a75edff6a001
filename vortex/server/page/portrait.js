// The picture: chosen, dropped or the example; the server finds the face, and the page shows its box.

import { find, statusLine } from "./dom.js";
import { call } from "./server.js";

const view = find("#portrait-view");
const hint = find("#portrait-drop .hint");

export const showStatus = statusLine("#portrait-status");

// What the server knows of the picture, or { clip } for a video, which is sent with each request.
export let portrait = null;

export async function usePicture(blob, changed) {
  portrait = null;
  changed();
  if (blob.type.startsWith("video/")) {
    view.hidden = true;
    hint.textContent = "Choose another one";
    portrait = { clip: blob };
    showStatus(`The person in ${blob.name ?? "the video"} gets other words.`, "good");
    changed();
    return;
  }
  showStatus("Looking for the face …");
  try {
    const form = new FormData();
    form.append("portrait", blob, "portrait");
    form.append("force_face", find("#force-face").checked);
    const found = await (await call("/v1/portraits", { method: "POST", body: form })).json();
    await draw(blob, found);
    portrait = found;
    showStatus(["Face found.", ...found.notes].join(" "), "good");
  } catch (error) {
    view.hidden = true;
    showStatus(error.message, "bad");
  }
  changed();
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
  hint.textContent = "Choose another one";
}
