// The video: queued, followed, cancelled, played, and its report.

import { find, reveal } from "./dom.js";
import { call, follow, getJson } from "./server.js";

const STAGES = {
  engine: "Starting", portrait: "Reading the picture", prepare: "Preparing the picture",
  speech: "Reading the voice", recognize: "Recognising the speech", motion: "Moving the face",
  track: "Following the face",
  ahead: "Rendering key frames", render: "Rendering",
};

const CANCELLED = "Cancelled. Nothing was kept.";

let current = null;
let sending = new AbortController();
let address = null;

export const make = (form) => show(async () => {
  const { signal } = sending;
  return (await call("/v1/videos", { method: "POST", body: form, signal })).json();
});

export const open = (video) => show(async () => video);

async function show(getVideo) {
  reset();
  reveal("#result");
  try {
    current = await getVideo();
    await watch(current);
  } catch (error) {
    fail(error.name === "AbortError" ? CANCELLED : error.message);
  }
}

async function watch(video) {
  for await (const state of follow(video)) {
    if (state.id !== current?.id) return;
    if (state.state === "queued") progress(0, state.ahead ? `Waiting for ${state.ahead} others` : "Waiting");
    if (state.state === "running") showProgress(state.progress);
    if (state.state === "failed") fail(state.error.message);
    if (state.state === "cancelled") fail(CANCELLED);
    if (state.state === "done") await present(state);
  }
}

function showProgress({ stage, completed, total, eta_s: left }) {
  const counted = ["track", "ahead", "render"].includes(stage) && total > 1;
  const share = counted ? completed / total : 0;
  let text = STAGES[stage] ?? "Working";
  if (counted) text += `, frame ${completed} of ${total}`;
  if (counted && left != null) text += `, ${Math.max(1, Math.round(left))} s left`;
  progress(share, text);
}

function progress(share, text) {
  if (share) find("#progress-bar").value = share;
  else find("#progress-bar").removeAttribute("value");
  find("#progress-text").textContent = text;
}

function reset() {
  current = null;
  sending = new AbortController();
  if (address) URL.revokeObjectURL(address);
  address = null;
  find("#player").removeAttribute("src");
  find("#failure").textContent = "";
  find("#done").hidden = true;
  find("#progress").hidden = false;
  find("#cancel").disabled = false;
  progress(0, "Sending");
}

function fail(text) {
  find("#progress").hidden = true;
  find("#failure").textContent = text;
}

async function present(video) {
  find("#progress").hidden = true;
  if (!address) {
    const blob = await (await call(video.video_url)).blob();
    address = URL.createObjectURL(blob);
    find("#player").src = address;
    find("#download").href = address;
    const { report } = video;
    const seconds = (new Date(video.finished_at) - new Date(video.started_at)) / 1000;
    find("#facts").textContent =
      `${report.duration_s.toFixed(1)} s, ${report.frames} frames of ${report.size_px.join(" × ")} pixels, ` +
      `${(blob.size / 1e6).toFixed(1)} MB; ${report.seed == null ? "" : `seed ${report.seed}; `}made in ${seconds.toFixed(1)} s. ` +
      report.notes.join(" ");
    find("#done").hidden = false;
    find("#player").play().catch(() => {}); // A browser may need a click first.
  }
  showSync(video);
  await listEarlier();
}

function showSync({ sync, measuring }) {
  const table = find("#sync");
  table.hidden = !sync && !measuring;
  const rows = measuring ? [["Lip-sync", "being measured …"]] : sync ? syncRows(sync) : [];
  table.tBodies[0].replaceChildren(
    ...rows.map(([name, value, kind]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      const cell = document.createElement("td");
      cell.textContent = value;
      cell.className = kind ?? "";
      row.append(head, cell);
      return row;
    }),
  );
}

function syncRows(sync) {
  const closures = sync.closures_found_s.length + sync.closures_missed_s.length;
  const frames = Math.abs(sync.offset_frames).toFixed(1);
  const side = sync.offset_frames > 0 ? "late" : "early";
  return [
    ["Verdict", sync.complaints.join("; ") || "in sync", sync.verdict ?? (sync.complaints.length ? "bad" : "good")],
    ["Lips and sound", `${frames} frames ${side} (${Math.round(sync.offset_ms)} ms)`],
    ["Agreement", `correlation ${sync.correlation.toFixed(2)}`],
    ["Closures of p, b, m", closures ? `${sync.closures_found_s.length} of ${closures} seen` : "none in this speech"],
  ];
}

export async function cancel() {
  find("#cancel").disabled = true;
  if (!current) {
    sending.abort();
    return;
  }
  try {
    await call(`/v1/videos/${current.id}/cancel`, { method: "POST" });
  } catch (error) {
    if (error.status !== 409) fail(error.message);
  }
}

export async function forget() {
  if (!current) return;
  const { id } = current;
  reset();
  find("#result").hidden = true;
  await call(`/v1/videos/${id}`, { method: "DELETE" }).catch(() => {});
  await listEarlier();
}

export async function listEarlier() {
  const { videos } = await getJson("/v1/videos?limit=10");
  find("#earlier-card").hidden = !videos.length;
  find("#earlier").replaceChildren(...videos.map(earlierItem));
}

function earlierItem(video) {
  const item = document.createElement("li");
  const what = document.createElement("span");
  what.className = "what";
  const length = video.report ? `${video.report.duration_s.toFixed(1)} s` : video.state;
  what.textContent = `${new Date(video.created_at).toLocaleString()}, ${video.options.preset ?? "from a video"}, ${length}`;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = video.state === "done" ? "Play" : "Show";
  button.setAttribute("aria-label", `${button.textContent} the video of ${what.textContent}`);
  button.onclick = () => open(video);
  item.append(what, button);
  return item;
}
