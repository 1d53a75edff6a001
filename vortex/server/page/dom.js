// Functions that every part of the page uses.

export const find = (selector) => document.querySelector(selector);

// Returns a function that shows a text in an element, plain, "good" or "bad".
export const statusLine = (selector) => (text, kind = "") => {
  find(selector).textContent = text;
  find(selector).className = `status ${kind}`;
};

export function reveal(selector) {
  find(selector).hidden = false;
  find(selector).scrollIntoView({ behavior: "smooth", block: "nearest" });
}
