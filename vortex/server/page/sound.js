// A sound that was chosen or recorded: checked at once, shown as a waveform, and cut.

import { find } from "./dom.js";
import { call } from "./server.js";
import { t } from "./text.js";

const RATE_HZ = 48000;
const SILENT_BELOW = 10 ** (-66 / 20); // As in vortex/media/audio.py.

// Returns { blob, samples, from_s, to_s, problem }: samples are missing if this browser cannot decode the format.
export async function readSound(blob) {
  const sound = { blob, samples: null, from_s: 0, to_s: 0, problem: "" };
  try {
    const decoded = await new OfflineAudioContext(1, 1, RATE_HZ).decodeAudioData(await blob.arrayBuffer());
    sound.samples = mixed(decoded);
    sound.to_s = decoded.duration;
  } catch {
    sound.problem = await whatTheServerSays(blob);
  }
  return sound;
}

function mixed(decoded) {
  const samples = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    const own = decoded.getChannelData(channel);
    for (let i = 0; i < samples.length; i++) samples[i] += own[i] / decoded.numberOfChannels;
  }
  return samples;
}

async function whatTheServerSays(blob) {
  const form = new FormData();
  form.append("speech", blob, "speech");
  try {
    await call("/v1/sounds/check", { method: "POST", body: form });
    return "";
  } catch (error) {
    return error.message;
  }
}

// Returns why no video can be made of the part that is kept; empty if one can.
export function problemOf(sound, limits) {
  if (sound.problem || !sound.samples) return sound.problem;
  const kept = part(sound);
  if (kept.length < RATE_HZ / 10) return t("sound_short");
  if (kept.every((sample) => Math.abs(sample) < SILENT_BELOW)) return t("sound_silent");
  if (kept.length / RATE_HZ > limits.max_duration_s) return t("sound_long", { most: limits.max_duration_s });
  return "";
}

const part = (sound, most_s = Infinity) =>
  sound.samples.subarray(Math.round(sound.from_s * RATE_HZ), Math.round(Math.min(sound.to_s, sound.from_s + most_s) * RATE_HZ));

const isWhole = (sound) => sound.from_s === 0 && Math.round(sound.to_s * RATE_HZ) >= sound.samples.length;

// Returns what is sent: the file as it is, or its kept part, of at most so many seconds, as WAV.
export function toSend(sound, most_s = Infinity) {
  if (!sound.samples || (isWhole(sound) && most_s >= sound.to_s)) return sound.blob;
  return wav(part(sound, most_s));
}

// RIFF, 16 bits, mono.
function wav(samples) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (at, text) => [...text].forEach((letter, i) => bytes.setUint8(at + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * samples.length, true);
  write(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true);
  bytes.setUint16(22, 1, true);
  bytes.setUint32(24, RATE_HZ, true);
  bytes.setUint32(28, 2 * RATE_HZ, true);
  bytes.setUint16(32, 2, true);
  bytes.setUint16(34, 16, true);
  write(36, "data");
  bytes.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => bytes.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, sample))), true));
  return new Blob([bytes], { type: "audio/wav" });
}

const edges = [find("#trim-start"), find("#trim-end")];

// Shows the waveform of a sound with its kept part; "cut" is called when that changes.
export function showTrim(sound, cut) {
  find("#trim").hidden = !sound?.samples;
  if (!sound?.samples) return;
  const whole_s = sound.samples.length / RATE_HZ;
  for (const [edge, value] of [[edges[0], sound.from_s], [edges[1], sound.to_s]]) {
    edge.max = whole_s;
    // The last step of the control may end before the sound.
    edge.value = value;
  }
  edges[0].oninput = () => { sound.from_s = Math.min(Number(edges[0].value), sound.to_s - 0.1); drawWave(sound); };
  edges[1].oninput = () => {
    const atEnd = Number(edges[1].value) >= whole_s - 0.05;
    sound.to_s = atEnd ? whole_s : Math.max(Number(edges[1].value), sound.from_s + 0.1);
    drawWave(sound);
  };
  for (const edge of edges) edge.onchange = () => { showTrim(sound, cut); cut(); };
  drawWave(sound);
}

function drawWave({ samples, from_s, to_s }) {
  const canvas = find("#wave");
  const { width, height } = canvas;
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  pen.clearRect(0, 0, width, height);
  const step = samples.length / width;
  for (let x = 0; x < width; x++) {
    let peak = 0;
    for (let i = Math.floor(x * step); i < (x + 1) * step; i++) peak = Math.max(peak, Math.abs(samples[i]));
    const at_s = (x * step) / RATE_HZ;
    pen.fillStyle = style.getPropertyValue(at_s >= from_s && at_s <= to_s ? "--accent" : "--line");
    const tall = Math.max(1, peak * (height - 2));
    pen.fillRect(x, (height - tall) / 2, 1, tall);
  }
  edges[0].setAttribute("aria-valuetext", t("seconds", { count: from_s.toFixed(2) }));
  edges[1].setAttribute("aria-valuetext", t("seconds", { count: to_s.toFixed(2) }));
}
