// Requests to the server. A key, if the server needs one, is kept until the tab is closed.

import { t } from "./text.js";

const KEY = "vortex-key";

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

export async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, t("no_answer"));
  }
  if (answer.ok) return answer;
  const detail = await answer.json().then((body) => body.detail, () => answer.statusText);
  if (answer.status === 401) document.dispatchEvent(new Event("key-needed"));
  throw new Problem(answer.status, detail);
}

export const getJson = async (path) => (await call(path)).json();

// Yields the states of a video until it is settled; connects again when the connection breaks.
export async function* follow(video) {
  let seen = 0;
  for (;;) {
    try {
      const headers = seen ? { "Last-Event-ID": String(seen) } : {};
      const answer = await call(video.events_url, { headers });
      for await (const event of events(answer.body)) {
        if (event.event === "deleted") return;
        const state = JSON.parse(event.data);
        seen = state.revision;
        yield state;
      }
      return;
    } catch (error) {
      if (error instanceof Problem && error.status) throw error;
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(
        block.split("\n").filter((line) => !line.startsWith(":")).map((line) => {
          const at = line.indexOf(":");
          return [line.slice(0, at), line.slice(at + 1).trim()];
        }),
      );
      if (fields.data) yield fields;
    }
  }
}

export function liveSocket(query) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const protocols = key.get() ? ["vortex.v1", `key.${key.get()}`] : ["vortex.v1"];
  const socket = new WebSocket(`${scheme}//${location.host}/v1/live?${new URLSearchParams(query)}`, protocols);
  socket.binaryType = "arraybuffer";
  return socket;
}
