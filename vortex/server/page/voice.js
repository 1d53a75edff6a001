// The voice: a file, a recording, or a text that the server speaks; or a video, a picture or a template that drives.

import { find, statusLine } from "./dom.js";
import { call, getJson } from "./server.js";

const player = find("#speech-player");
const recordButton = find("#record");
const level = find("#record-level");

const sounds = { file: null, record: null, driving: null };
let recording = null;
let canSpeak = false;

export const source = () => find("[name=source]:checked").value;

// Adds the voice to the form of a video; returns whether there is one.
export function fillIn(form) {
  if (source() === "text") {
    const text = find("#text").value.trim();
    if (!text || !canSpeak) return false;
    form.append("text", text);
    form.append("voice", find("#voice").value);
    form.append("speed", find("#speed").value || "1");
    return true;
  }
  const sound = sounds[source()];
  const field = source() === "driving" ? "driving" : "speech";
  if (sound) form.append(field, sound, field);
  return Boolean(sound);
}

export const ready = () => fillIn(new FormData());

export function useSound(blob, kind, changed) {
  sounds[kind] = blob;
  show();
  changed();
}

export const showStatus = statusLine("#speech-status");

export function show() {
  for (const part of document.querySelectorAll("[data-source]")) part.hidden = part.dataset.source !== source();
  const file = sounds[source()];
  // A picture or a template that drives cannot be heard.
  const sound = file && (source() !== "driving" || file.type.startsWith("video/")) ? file : null;
  if (player.src) URL.revokeObjectURL(player.src);
  player.hidden = !sound;
  if (sound) player.src = URL.createObjectURL(sound);
  else player.removeAttribute("src");
  showStatus(source() === "text" && !canSpeak ? whyNot : file && !sound ? file.name : "");
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
  show();
}

export async function toggleRecording(changed) {
  if (recording) {
    recording.stop();
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  } catch (error) {
    showStatus(`No microphone: ${error.message}. Allow it in the browser, or choose a file.`, "bad");
    return;
  }
  const parts = [];
  recording = new MediaRecorder(stream);
  const stopMeter = meter(stream);
  recording.ondataavailable = (event) => parts.push(event.data);
  recording.onstop = () => {
    stopMeter();
    for (const track of stream.getTracks()) track.stop();
    const type = recording.mimeType;
    recording = null;
    press(false);
    useSound(new Blob(parts, { type }), "record", changed);
  };
  recording.start();
  press(true);
  showStatus("Recording …");
}

function press(on) {
  recordButton.setAttribute("aria-pressed", String(on));
  find("#record-label").textContent = on ? "Stop" : "Record";
  if (!on) showStatus("");
}

function meter(stream) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const started = performance.now();
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    level.value = Math.min(1, 4 * Math.sqrt(power));
    find("#record-label").textContent = `Stop (${Math.floor((performance.now() - started) / 1000)} s)`;
  }, 100);
  return () => {
    clearInterval(timer);
    level.value = 0;
    context.close();
  };
}

export const example = async (changed) =>
  useSound(await (await call("/page/example.flac")).blob(), "file", changed);
