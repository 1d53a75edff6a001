// Live: sends the microphone to the server, shows the frames of the face as they arrive, and records them.

import { find, reveal, statusLine } from "./dom.js";
import { liveSocket } from "./server.js";
import { t } from "./text.js";

const RATE_HZ = 24000;
const FORMATS = ["video/mp4", "video/webm"];
const view = find("#live-view");
const showStatus = statusLine("#live-status");

let stop = () => {};
let toggle = () => {};

export const stopLive = () => stop();
export const toggleLiveRecording = () => toggle();

export async function talkLive(query) {
  stop();
  showStatus(t("microphone_asking"));
  reveal("#live-card");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true } });
  } catch {
    showStatus(t("microphone_none"), "bad");
    return;
  }
  const context = new AudioContext({ sampleRate: RATE_HZ });
  await context.audioWorklet.addModule("/page/microphone.js");
  const microphone = new AudioWorkletNode(context, "microphone");
  const socket = liveSocket({ ...query, sample_rate_hz: RATE_HZ, pace: "sound" });
  const recording = recorder(context);
  const tally = { ready: false, sent: 0, frames: 0, rate: 24, hear: recording.hear };
  toggle = recording.toggle;
  stop = () => {
    recording.end();
    find("#live-record").disabled = true;
    for (const track of stream.getTracks()) track.stop();
    context.close();
    socket.close();
    stop = toggle = () => {};
    showStatus(t("live_stopped", { count: tally.frames }));
  };
  microphone.port.onmessage = ({ data }) => {
    // Sound from before the face was ready would only delay it.
    if (!tally.ready || socket.readyState !== WebSocket.OPEN) return;
    socket.send(data);
    tally.sent += data.byteLength / 2;
  };
  socket.onmessage = ({ data }) => receive(data, tally);
  socket.onclose = ({ reason }) => {
    stop();
    if (reason) showStatus(reason, "bad");
  };
  context.createMediaStreamSource(stream).connect(microphone);
}

function receive(data, tally) {
  if (typeof data === "string") {
    const event = JSON.parse(data);
    if (event.type === "ready") {
      [view.width, view.height] = event.size_px;
      tally.rate = Number(event.fps.split("/")[0]) / Number(event.fps.split("/")[1] ?? 1);
      tally.ready = true;
      find("#live-record").disabled = false;
      showStatus(t("live_speak"));
    }
    return;
  }
  const head = new DataView(data);
  const soundBytes = head.getUint32(4, true);
  const picture = new Blob([new Uint8Array(data, 8 + soundBytes)], { type: "image/jpeg" });
  const index = head.getUint32(0, true);
  createImageBitmap(picture).then((bitmap) => view.getContext("2d").drawImage(bitmap, 0, 0));
  tally.hear(new Int16Array(data.slice(8, 8 + soundBytes)));
  tally.frames = index + 1;
  if (index % 12 === 0) {
    const behind = tally.sent / RATE_HZ - index / tally.rate;
    showStatus(t("live_behind", { count: index, ms: Math.round(1000 * behind) }));
  }
}

// Records the canvas with the sound that came with its frames, so that both stay together.
function recorder(context) {
  const output = context.createMediaStreamDestination();
  let next_s = 0;
  let running = null;
  const hear = (samples) => {
    if (!running || !samples.length) return;
    const buffer = context.createBuffer(1, samples.length, RATE_HZ);
    buffer.getChannelData(0).set(Float32Array.from(samples, (sample) => sample / 32768));
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(output);
    next_s = Math.max(next_s, context.currentTime);
    source.start(next_s);
    next_s += buffer.duration;
  };
  const begin = () => {
    const parts = [];
    const type = FORMATS.find((format) => MediaRecorder.isTypeSupported(format));
    const stream = new MediaStream([...view.captureStream().getVideoTracks(), ...output.stream.getAudioTracks()]);
    running = new MediaRecorder(stream, { mimeType: type });
    running.ondataavailable = (event) => parts.push(event.data);
    running.onstop = () => offer(new Blob(parts, { type }), type.split("/")[1]);
    running.start();
    press(true);
  };
  const end = () => {
    running?.stop();
    running = null;
    press(false);
  };
  return { hear, end, toggle: () => (running ? end() : begin()) };
}

function press(on) {
  find("#live-record").setAttribute("aria-pressed", String(on));
  find("#live-record-label").textContent = t(on ? "live_record_stop" : "live_record");
}

function offer(blob, suffix) {
  const link = find("#live-download");
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(blob);
  link.download = `live.${suffix}`;
  link.hidden = false;
}
