// The video that is being made or played: queued, followed, cancelled, and its report.

import { find, reveal } from "./dom.js";
import { remember, remembered } from "./memory.js";
import { call, follow, getJson } from "./server.js";
import { has, t } from "./text.js";

const PLAYED = ["mp4", "webm"];
const PICTURES = ["gif", "webp"];

let current = null;
let isPreview = false;
let sending = new AbortController();
let address = null;
let onDone = () => {};

export const whenSettled = (call) => { onDone = call; };
export const currentId = () => current?.id;

// A preview is deleted from the server as soon as the page has it.
export const make = (form, { preview = false } = {}) => show(preview, async () => {
  const { signal } = sending;
  return (await call("/v1/videos", { method: "POST", body: form, signal })).json();
});

export const open = (video) => show(false, async () => video);

// Shows the video of the visit before, or one that is being made, also from another device.
export async function restore() {
  const id = remembered("video");
  let video = id ? await getJson(`/v1/videos/${id}`).catch(() => null) : null;
  for (const state of ["running", "queued"]) video ??= (await getJson(`/v1/videos?limit=1&state=${state}`)).videos[0];
  if (video) open(video);
  else remember("video", null);
}

async function show(preview, getVideo) {
  reset();
  isPreview = preview;
  find("#result-title").textContent = t(preview ? "preview_title" : "video_title");
  reveal("#result");
  try {
    current = await getVideo();
    if (!preview) remember("video", current.id);
    await watch(current);
  } catch (error) {
    fail(error.name === "AbortError" ? t("cancelled") : error.message);
  }
  onDone();
}

async function watch(video) {
  for await (const state of follow(video)) {
    if (state.id !== current?.id) return;
    if (state.state === "queued") progress(0, state.ahead ? t("waiting_for", { count: state.ahead }) : t("waiting"));
    if (state.state === "running") showProgress(state.progress);
    if (state.state === "failed") fail(state.error.message);
    if (state.state === "cancelled") fail(t("cancelled"));
    if (state.state === "done") await present(state);
  }
}

function showProgress({ stage, completed, total, eta_s: left }) {
  const counted = ["track", "ahead", "render"].includes(stage) && total > 1;
  let text = t(has(`stage_${stage}`) ? `stage_${stage}` : "stage_other");
  if (counted) text += t("frame_of", { completed, total });
  if (counted && left != null) text += t("seconds_left", { count: Math.max(1, Math.round(left)) });
  progress(counted ? completed / total : 0, text);
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
  for (const name of ["#player", "#moving-picture"]) find(name).removeAttribute("src");
  find("#failure").textContent = "";
  find("#done").hidden = true;
  find("#progress").hidden = false;
  find("#cancel").disabled = false;
  progress(0, t("sending"));
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
    const suffix = video.video_url.match(/\w+$/)[0];
    const title = fileName(video.options.name ?? "") || "talking";
    find("#download").href = address;
    find("#download").download = `${title}.${suffix}`;
    await showCaptions(video.captions_urls ?? [], title);
    play(suffix);
    showFacts(video, blob);
    find("#done").hidden = false;
    find("#again").hidden = isPreview;
    reveal("#result");
    if (isPreview) await call(`/v1/videos/${video.id}`, { method: "DELETE" }).catch(() => {});
    onDone();
  }
  if (!isPreview) showSync(video);
  else find("#sync").hidden = true;
}

// Plays the formats that browsers play; the others can only be downloaded.
function play(suffix) {
  const shown = PLAYED.includes(suffix) ? "#player" : PICTURES.includes(suffix) ? "#moving-picture" : "#not-played";
  for (const name of ["#player", "#moving-picture", "#not-played"]) find(name).hidden = name !== shown;
  if (shown !== "#not-played") find(shown).src = address;
  if (shown === "#player") find(shown).play().catch(() => {}); // A browser may need a click first.
}

async function showCaptions(urls, title) {
  const links = await Promise.all(urls.map(async (url) => {
    const suffix = url.match(/\w+$/)[0];
    const link = document.createElement("a");
    link.href = `data:text/plain;charset=utf-8,${encodeURIComponent(await (await call(url)).text())}`;
    link.download = `${title}.${suffix}`;
    link.textContent = t("captions_file", { kind: suffix.toUpperCase() });
    return link;
  }));
  find("#captions").replaceChildren(...links);
  find("#captions").hidden = !links.length;
}

function showFacts({ report, started_at: started, finished_at: finished }, blob) {
  const facts = t("facts", {
    seconds: report.duration_s.toFixed(1), frames: report.frames, size: report.size_px.join(" × "),
    megabytes: (blob.size / 1e6).toFixed(1), made: ((new Date(finished) - new Date(started)) / 1000).toFixed(1),
  });
  const seed = report.seed == null ? "" : t("fact_seed", { seed: report.seed });
  find("#facts").textContent = [facts, seed, ...report.notes].filter(Boolean).join(" ");
}

// As the server names downloads: letters and digits, with hyphens between.
const fileName = (name) => name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60);

function showSync({ sync, measuring }) {
  const table = find("#sync");
  table.hidden = !sync && !measuring;
  const rows = measuring ? [[t("sync"), t("sync_measuring")]] : sync ? syncRows(sync) : [];
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
  const values = { frames: Math.abs(sync.offset_frames).toFixed(1), ms: Math.round(sync.offset_ms) };
  return [
    [t("sync_verdict"), sync.complaints.join("; ") || t("sync_good"), sync.verdict ?? (sync.complaints.length ? "bad" : "good")],
    [t("sync_offset"), t(sync.offset_frames > 0 ? "sync_late" : "sync_early", values)],
    [t("sync_agreement"), t("sync_correlation", { value: sync.correlation.toFixed(2) })],
    [t("sync_closures"), closures ? t("sync_seen", { seen: sync.closures_found_s.length, all: closures }) : t("sync_none")],
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

// Takes a video off the page if it is the one that is shown.
export function close(id) {
  if (current?.id !== id) return;
  remember("video", null);
  reset();
  find("#result").hidden = true;
}
