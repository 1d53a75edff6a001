// What the page remembers in this browser: settings, the picture and the video that was open; never a key.

const START = "vortex-";

export const remember = (name, value) => {
  if (value == null) localStorage.removeItem(START + name);
  else localStorage.setItem(START + name, value);
};

export const remembered = (name) => localStorage.getItem(START + name);

// Fields whose values stay from one visit to the next.
const FIELDS = ["strength", "size", "fps", "quality", "paste-back", "check", "mark", "voice", "speed", "region", "motion",
  "multiplier", "text"];

const valueOf = (field) => (field.type === "checkbox" ? String(field.checked) : field.value);

export function restoreFields() {
  for (const name of FIELDS) {
    const field = document.getElementById(name);
    const value = remembered(name);
    if (value == null) continue;
    if (field.type === "checkbox") field.checked = value === "true";
    else if (field.tagName !== "SELECT" || [...field.options].some((option) => option.value === value)) field.value = value;
  }
}

export function rememberFields() {
  for (const name of FIELDS) {
    const field = document.getElementById(name);
    field.addEventListener("change", () => remember(name, valueOf(field)));
  }
}
