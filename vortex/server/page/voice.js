// The voice: a file, a recording, or a text that the server speaks; or a video, a picture or a template that drives.

import { find, statusLine } from "./dom.js";
import { problemOf, readSound, showTrim, toSend } from "./sound.js";
import { call, getJson } from "./server.js";
import { t } from "./text.js";

const COUNTDOWN_S = 3;
const player = find("#speech-player");
const recordButton = find("#record");
const level = find("#record-level");

// A file and a recording are sounds of sound.js; what drives is a file.
const sounds = { file: null, record: null, driving: null };
let limits = { max_duration_s: Infinity };
let recording = null;
let canSpeak = false;
let asked = 0;

export const source = () => find("[name=source]:checked").value;
export const setLimits = (given) => { limits = given; };

// Adds the voice to the form of a video, of at most so many seconds; returns whether there is one.
export function fillIn(form, most_s = Infinity) {
  if (source() === "text") {
    const text = find("#text").value.trim();
    if (!text || !canSpeak) return false;
    form.append("text", most_s < Infinity ? firstSentence(text) : text);
    form.append("voice", find("#voice").value);
    form.append("speed", find("#speed").value || "1");
    return true;
  }
  if (source() === "driving") {
    if (!sounds.driving) return false;
    form.append("driving", sounds.driving, "driving");
    if (most_s < player.duration) form.append("duration_s", most_s);
    return true;
  }
  const sound = sounds[source()];
  if (!sound || problemOf(sound, limits)) return false;
  form.append("speech", toSend(sound, most_s), "speech");
  return true;
}

export const firstSentence = (text) => text.match(/^.*?[.!?。！？](?=\s|$)/s)?.[0] ?? text.slice(0, 200);

export const ready = () => fillIn(new FormData());

// What the voice is called: the beginning of the text, or the name of the file.
export function title() {
  if (source() === "text") return find("#text").value.trim().split(/\s+/).slice(0, 6).join(" ").slice(0, 60);
  const file = source() === "driving" ? sounds.driving : sounds[source()]?.blob;
  return (file?.name ?? "").replace(/\.\w+$/, "") || (source() === "record" ? t("recording_title") : "");
}

export async function useSound(blob, kind, changed) {
  const number = ++asked;
  if (kind === "driving") sounds.driving = blob;
  else {
    sounds[kind] = null;
    showStatus(t("sound_checking"));
    const sound = await readSound(blob);
    if (number !== asked) return;
    sounds[kind] = sound;
  }
  show(changed);
  changed();
}

export const showStatus = statusLine("#speech-status");

export function show(changed) {
  for (const part of document.querySelectorAll("[data-source]")) part.hidden = part.dataset.source !== source();
  const sound = ["file", "record"].includes(source()) ? sounds[source()] : null;
  showTrim(sound, () => { show(changed); changed(); });
  const driver = source() === "driving" ? sounds.driving : null;
  // A picture or a template that drives cannot be heard.
  play(sound && !sound.problem ? toSend(sound) : driver?.type.startsWith("video/") ? driver : null);
  if (sound) {
    const problem = problemOf(sound, limits);
    showStatus(problem || soundFacts(sound), problem ? "bad" : "good");
  } else if (source() === "text" && !canSpeak) showStatus(whyNot);
  else showStatus(driver && player.hidden ? driver.name : "");
}

const soundFacts = (sound) => (sound.samples ? t("sound_good", { count: (sound.to_s - sound.from_s).toFixed(1) }) : t("sound_usable"));

function play(blob) {
  if (player.src) URL.revokeObjectURL(player.src);
  player.hidden = !blob;
  if (blob) player.src = URL.createObjectURL(blob);
  else player.removeAttribute("src");
}

let whyNot = "";

export async function listVoices() {
  const { voices, why_not: reason } = await getJson("/v1/voices");
  canSpeak = voices.length > 0;
  whyNot = reason ?? "";
  find("#voice").replaceChildren(
    ...voices.map((voice) => new Option(`${voice.name} (${voice.language}, ${voice.gender})`, voice.name)),
  );
  for (const field of ["#text", "#voice", "#speed"]) find(field).disabled = !canSpeak;
}

export async function toggleRecording(changed) {
  if (recording) {
    recording.end();
    return;
  }
  recording = { end: () => {} };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  } catch {
    recording = null;
    showStatus(t("microphone_none"), "bad");
    return;
  }
  const stopMeter = meter(stream);
  const release = () => {
    stopMeter();
    for (const track of stream.getTracks()) track.stop();
    recording = null;
    press(false);
  };
  press(true);
  if (await countdown()) record(stream, release, changed);
  else release();
}

// Counts down, while the meter shows whether the microphone hears anything; returns whether it was not stopped.
async function countdown() {
  let goesOn = true;
  recording.end = () => { goesOn = false; };
  for (let left = COUNTDOWN_S; left > 0 && goesOn; left--) {
    find("#record-label").textContent = t("record_countdown", { count: left });
    await new Promise((done) => setTimeout(done, 1000));
  }
  return goesOn;
}

function record(stream, release, changed) {
  const parts = [];
  const recorder = new MediaRecorder(stream);
  const started = performance.now();
  const timer = setInterval(() => {
    find("#record-label").textContent = t("record_stop", { count: Math.floor((performance.now() - started) / 1000) });
  }, 200);
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = () => {
    clearInterval(timer);
    release();
    useSound(new Blob(parts, { type: recorder.mimeType }), "record", changed);
  };
  recording.end = () => recorder.stop();
  recorder.start();
}

function press(on) {
  recordButton.setAttribute("aria-pressed", String(on));
  find("#record-label").textContent = t("record");
  showStatus(on ? t("recording") : "");
}

function meter(stream) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    level.value = Math.min(1, 4 * Math.sqrt(power));
  }, 100);
  return () => {
    clearInterval(timer);
    level.value = 0;
    context.close();
  };
}

export async function example(changed) {
  const blob = await (await call("/page/example.flac")).blob();
  await useSound(new File([blob], "example.flac", { type: blob.type }), "file", changed);
}
