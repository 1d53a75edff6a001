// Live: sends the microphone to the server and shows the frames of the face as they arrive.

import { find, reveal, statusLine } from "./dom.js";
import { liveSocket } from "./server.js";

const RATE_HZ = 24000;
const view = find("#live-view");
const showStatus = statusLine("#live-status");

let stop = () => {};

export const stopLive = () => stop();

export async function talkLive(query) {
  stop();
  showStatus("Asking for the microphone …");
  reveal("#live-card");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true } });
  } catch (error) {
    showStatus(`No microphone: ${error.message}.`, "bad");
    return;
  }
  const context = new AudioContext({ sampleRate: RATE_HZ });
  await context.audioWorklet.addModule("/page/microphone.js");
  const microphone = new AudioWorkletNode(context, "microphone");
  const socket = liveSocket({ ...query, sample_rate_hz: RATE_HZ, pace: "sound" });
  const tally = { ready: false, sent: 0, frames: 0, rate: 24 };
  stop = () => {
    for (const track of stream.getTracks()) track.stop();
    context.close();
    socket.close();
    stop = () => {};
    showStatus(`Stopped after ${tally.frames} frames.`);
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
      showStatus("Speak now.");
    }
    return;
  }
  const head = new DataView(data);
  const picture = new Blob([new Uint8Array(data, 8 + head.getUint32(4, true))], { type: "image/jpeg" });
  const index = head.getUint32(0, true);
  createImageBitmap(picture).then((bitmap) => view.getContext("2d").drawImage(bitmap, 0, 0));
  tally.frames = index + 1;
  if (index % 12 === 0) {
    const behind = tally.sent / RATE_HZ - index / tally.rate;
    showStatus(`Live: ${index} frames, ${Math.round(1000 * behind)} ms behind your voice.`);
  }
}
