// Puts the parts of the page together.

import { find } from "./dom.js";
import { call, getJson, key } from "./server.js";
import { portrait, showStatus as showPortraitStatus, usePicture } from "./portrait.js";
import * as voice from "./voice.js";
import * as video from "./video.js";
import { stopLive, talkLive } from "./live.js";

const chosen = (name) => find(`[name=${name}]:checked`).value;

let limits = { max_upload_bytes: Infinity, qualities: [] };

function changed() {
  const voiced = voice.ready();
  find("#make").disabled = !(portrait && voiced);
  find("#live").disabled = !portrait || Boolean(portrait.clip);
  const driven = voice.source() === "driving";
  for (const field of ["#presets", "#seed", "#fps"]) find(field).disabled = driven;
  const wanted = [portrait ? "" : "a picture", voiced ? "" : driven ? "a video or a picture" : "a voice"].filter(Boolean);
  find("#make-status").textContent = wanted.length ? `Choose ${wanted.join(" and ")} first.` : "";
}

// The options that a video and a live face share.
function faceOptions() {
  const options = { portrait_id: portrait.id, preset: `${chosen("preset")}:${find("#strength").value}`, size_px: find("#size").value,
    fps: find("#fps").value, paste_back: find("#paste-back").checked, quality: find("#quality").value };
  if (find("#seed").value !== "") options.seed = find("#seed").value;
  return options;
}

async function makeVideo() {
  const form = new FormData();
  // A video that drives has its own rate, and decides all motion; a clip keeps its own size and rate.
  const own = [...(voice.source() === "driving" ? ["preset", "seed", "fps"] : []),
    ...(portrait.clip ? ["portrait_id", "size_px", "fps", "paste_back"] : [])];
  for (const [name, value] of Object.entries(faceOptions())) {
    if (!own.includes(name)) form.append(name, value);
  }
  if (portrait.clip) form.append("portrait", portrait.clip, "portrait");
  if (voice.source() === "driving") {
    for (const name of ["region", "motion"]) form.append(name, find(`#${name}`).value);
    form.append("multiplier", find("#multiplier").value || "1");
  }
  form.append("check", find("#check").checked);
  form.append("mark", find("#mark").checked);
  voice.fillIn(form);
  find("#make").disabled = true;
  await video.make(form);
  changed();
}

function takePicture(file) {
  if (tooLarge(file)) showPortraitStatus(tooLarge(file), "bad");
  else usePicture(file, changed);
}

const takeSound = (kind) => (file) => {
  if (tooLarge(file)) voice.showStatus(tooLarge(file), "bad");
  else voice.useSound(file, kind, changed);
};

function tooLarge(file) {
  const most = Math.floor(limits.max_upload_bytes / 1e6);
  return file.size > limits.max_upload_bytes ? `The file has ${Math.ceil(file.size / 1e6)} MB; at most ${most} are accepted.` : "";
}

function dropInto(zone, take) {
  const element = find(zone);
  element.querySelector("input").addEventListener("change", (event) => {
    if (event.target.files[0]) take(event.target.files[0]);
    event.target.value = "";
  });
  for (const kind of ["dragenter", "dragover"]) {
    element.addEventListener(kind, (event) => { event.preventDefault(); element.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) {
    element.addEventListener(kind, (event) => { event.preventDefault(); element.classList.remove("over"); });
  }
  element.addEventListener("drop", (event) => {
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}

async function start() {
  try {
    limits = await getJson("/v1/limits");
    find("#text").maxLength = limits.max_text_length;
    find("#quality").replaceChildren(...limits.qualities.map((name) => new Option(name)));
    find("#quality-label").hidden = limits.qualities.length < 2;
    await Promise.all([voice.listVoices(), video.listEarlier()]);
    find("#key-form").hidden = true;
    find("#studio").hidden = false;
  } catch (error) {
    if (error.status !== 401) find("#make-status").textContent = error.message;
  }
}

document.addEventListener("key-needed", () => {
  find("#key-form").hidden = false;
  find("#studio").hidden = true;
});
find("#key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(find("#key").value.trim());
  start();
});
dropInto("#portrait-drop", takePicture);
dropInto("#speech-drop", takeSound("file"));
dropInto("#driving-drop", takeSound("driving"));
// A file that is dropped beside its place must not replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
find("#portrait-example").onclick = async () => usePicture(await (await call("/page/example.jpg")).blob(), changed);
find("#speech-example").onclick = () => voice.example(changed);
for (const tab of document.querySelectorAll("[name=source]")) tab.onchange = () => { voice.show(); changed(); };
find("#text").oninput = changed;
find("#record").onclick = () => voice.toggleRecording(changed);
find("#make").onclick = makeVideo;
find("#cancel").onclick = video.cancel;
find("#again").onclick = video.forget;
find("#live").onclick = () => talkLive(faceOptions());
find("#live-stop").onclick = stopLive;
start();
