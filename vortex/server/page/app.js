// Puts the parts of the page together.

import { find } from "./dom.js";
import * as earlier from "./earlier.js";
import { talkLive, stopLive, toggleLiveRecording } from "./live.js";
import { rememberFields, restoreFields } from "./memory.js";
import { enableOptions, fillInOptions, hasSound, readOptions, showOptions } from "./options.js";
import { showPhoneCode } from "./phone.js";
import * as picture from "./portrait.js";
import { choosePreset, chosenPreset, showPresets } from "./presets.js";
import { call, getJson, key } from "./server.js";
import { chooseLanguage, has, LANGUAGES, loadTexts, t } from "./text.js";
import * as video from "./video.js";
import * as voice from "./voice.js";

const PREVIEW = { size_px: 192, most_s: 3 };

let limits = { max_upload_bytes: Infinity, qualities: [], presets: [] };

function changed() {
  const { portrait } = picture;
  const ready = Boolean(portrait && voice.ready());
  find("#make").disabled = find("#preview").disabled = !ready;
  find("#live").disabled = !portrait || Boolean(portrait.clip);
  const driven = voice.source() === "driving";
  for (const field of ["#presets", "#strength", "#seed", "#fps"]) find(field).disabled = driven;
  enableOptions({ clip: Boolean(portrait?.clip), text: voice.source() === "text" });
  const missing = portrait ? (voice.ready() ? "" : driven ? "missing_driver" : "missing_voice") : voice.ready() ? "missing_picture" : "missing_both";
  find("#make-status").textContent = missing ? t(missing) : "";
  find("#strength-shown").textContent = find("#strength").value;
  find("#name").placeholder = voice.title();
}

// The options that a video and a live face share.
function faceOptions() {
  const options = { portrait_id: picture.portrait.id, preset: `${chosenPreset()}:${find("#strength").value}`, size_px: find("#size").value,
    fps: find("#fps").value, paste_back: find("#paste-back").checked, quality: find("#quality").value };
  if (find("#seed").value !== "") options.seed = find("#seed").value;
  return options;
}

// Says which number is outside its range, and goes there; returns whether all are inside.
function numbersAreValid() {
  const wrong = [...document.querySelectorAll("main input[type=number]")].find((field) => !field.disabled && !field.validity.valid);
  if (!wrong) return true;
  const folded = wrong.closest("details");
  if (folded) folded.open = true;
  const name = wrong.labels[0].textContent.trim();
  const whole = wrong.step === "1";
  find("#make-status").textContent = t(whole ? "whole_range" : "number_range", { name, least: wrong.min, most: wrong.max });
  wrong.focus();
  return false;
}

function videoForm(most_s) {
  const form = new FormData();
  const { clip } = picture.portrait;
  const driven = voice.source() === "driving";
  // A video that drives has its own rate, and decides all motion; a clip keeps its own size and rate.
  const own = [...(driven ? ["preset", "seed", "fps"] : []), ...(clip ? ["portrait_id", "size_px", "fps", "paste_back"] : [])];
  for (const [name, value] of Object.entries(faceOptions())) {
    if (!own.includes(name)) form.append(name, value);
  }
  if (clip) form.append("portrait", clip, "portrait");
  if (driven) {
    for (const name of ["region", "motion"]) form.append(name, find(`#${name}`).value);
    form.append("multiplier", find("#multiplier").value || "1");
  }
  form.append("mark", find("#mark").checked);
  fillInOptions(form);
  voice.fillIn(form, most_s);
  const name = (find("#name").value.trim() || voice.title()).slice(0, 200);
  if (name) form.append("name", name);
  return form;
}

async function makeVideo() {
  if (!numbersAreValid()) return;
  const form = videoForm(Infinity);
  form.append("check", find("#check").checked && hasSound());
  await send(form);
}

async function makePreview() {
  if (!numbersAreValid()) return;
  const form = videoForm(PREVIEW.most_s);
  if (!picture.portrait.clip) form.set("size_px", PREVIEW.size_px);
  await send(form, { preview: true });
}

async function send(form, options) {
  find("#make").disabled = find("#preview").disabled = true;
  await video.make(form, options);
  changed();
}

// Fills the page with the options of an earlier video.
async function repeat({ options, portrait_id: id }) {
  const known = id ? await picture.useKnown(id, changed) : false;
  if (options.text) {
    choose("source", "text");
    find("#text").value = options.text;
    for (const name of ["voice", "speed"]) find(`#${name}`).value = options[name];
  }
  const values = { size: options.size_px, fps: options.fps, seed: options.seed, quality: options.quality, name: options.name,
    region: options.region, motion: options.motion, multiplier: options.multiplier };
  for (const [name, value] of Object.entries(values)) if (value != null) find(`#${name}`).value = value;
  find("#paste-back").checked = options.paste_back;
  find("#mark").checked = options.mark;
  find("#check").checked = options.check;
  const [preset, strength] = (options.preset ?? "").split(":");
  if (limits.presets.includes(preset)) choosePreset(preset);
  find("#strength").value = strength ?? 1;
  voice.show(changed);
  changed();
  find("#studio").scrollIntoView({ behavior: "smooth" });
  if (!known && !picture.portrait) picture.showStatus(t("repeat_picture"));
  if (!options.text && !voice.ready()) voice.showStatus(t("repeat_sound"));
}

const choose = (name, value) => { find(`[name=${name}][value=${value}]`).checked = true; };

function takePicture(file) {
  if (tooLarge(file)) picture.showStatus(tooLarge(file), "bad");
  else picture.usePicture(file, changed);
}

const takeSound = (kind) => (file) => {
  if (tooLarge(file)) voice.showStatus(tooLarge(file), "bad");
  else voice.useSound(file, kind, changed);
};

function tooLarge(file) {
  const most = Math.floor(limits.max_upload_bytes / 1e6);
  return file.size > limits.max_upload_bytes ? t("file_large", { size: Math.ceil(file.size / 1e6), most }) : "";
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

function paste(event) {
  const [file] = event.clipboardData.files;
  if (file?.type.startsWith("image/")) takePicture(file);
  if (file?.type.startsWith("audio/")) {
    choose("source", "file");
    takeSound("file")(file);
  }
  if (file) event.preventDefault();
}

// A code on another screen brings the key behind a #, which no server sees; it does not stay in the address.
function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!given) return;
  key.set(given);
  history.replaceState(null, "", location.pathname);
}

function showTextsOfParts() {
  showPresets();
  showOptions();
  voice.show(changed);
  changed();
}

async function start() {
  try {
    limits = await getJson("/v1/limits");
    voice.setLimits(limits);
    find("#text").maxLength = limits.max_text_length;
    find("#quality").replaceChildren(...limits.qualities.map((name) => new Option(has(`quality_${name}`) ? t(`quality_${name}`) : name, name)));
    find("#quality-label").hidden = limits.qualities.length < 2;
    showPresets(limits.presets);
    await Promise.all([voice.listVoices(), earlier.listEarlier(), readOptions()]);
    restoreFields();
    showTextsOfParts();
    find("#key-form").hidden = true;
    find("#studio").hidden = false;
    await picture.restorePicture(changed);
    await video.restore();
  } catch (error) {
    if (error.status !== 401) find("#make-status").textContent = error.message;
  }
}

document.addEventListener("key-needed", () => {
  find("#key-status").textContent = key.get() ? t("key_wrong") : "";
  find("#key-form").hidden = false;
  find("#studio").hidden = true;
  find("#key").focus();
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
window.addEventListener("paste", paste);
find("#portrait-example").onclick = async () => picture.usePicture(await (await call("/page/example.jpg")).blob(), changed);
find("#force-face").onchange = () => picture.tryAgain(changed);
find("#camera").onclick = picture.openCamera;
find("#camera-take").onclick = () => picture.takePhoto(changed);
find("#camera-close").onclick = picture.closeCamera;
find("#speech-example").onclick = () => voice.example(changed);
for (const tab of document.querySelectorAll("[name=source]")) tab.onchange = () => { voice.show(changed); changed(); };
find("#text").oninput = changed;
find("#strength").oninput = changed;
find("#record").onclick = () => voice.toggleRecording(changed);
find("#make").onclick = makeVideo;
find("#preview").onclick = makePreview;
find("#cancel").onclick = video.cancel;
find("#again").onclick = () => earlier.remove({ id: video.currentId() }, t("video_title"));
find("#undo").onclick = earlier.undo;
find("#live").onclick = () => talkLive(faceOptions());
find("#live-record").onclick = toggleLiveRecording;
find("#live-stop").onclick = stopLive;
find("#phone").onclick = showPhoneCode;
find("#language").replaceChildren(...Object.entries(LANGUAGES).map(([code, name]) => new Option(name, code)));
find("#language").onchange = async (event) => {
  await chooseLanguage(event.target.value);
  showTextsOfParts();
  await earlier.listEarlier();
};
video.whenSettled(() => earlier.listEarlier().catch(() => {}));
earlier.whenRepeated(repeat);
rememberFields();
takeKeyFromAddress();
find("#language").value = await loadTexts();
start();
