// Elements from code. Texts become text nodes, never markup; the page's policy would refuse markup anyway.

const MOST_TOASTS = 4;
const MOST_LETTERS = 40;

export const $ = (id) => document.getElementById(id);

/** An element with attributes, `on…` handlers given as functions, and children (texts or elements). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.replace(/^on/, ""), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Sets a text only where it changed, so that a screen reader and the layout are left alone. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** Words on the picture: the beginning of a long name. */
export function shortened(words) {
  const letters = [...words];
  return letters.length > MOST_LETTERS ? `${letters.slice(0, MOST_LETTERS - 1).join("")}…` : words;
}

export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

/** Says something to the user; an alarm stays longer than a success. What is said already is not said twice. */
export function toast(message, alarming = false) {
  const note = said(message, { class: alarming ? "toast alarming" : "toast", role: alarming ? "alert" : "status" });
  setTimeout(() => note.remove(), alarming ? 9000 : 4000);
}

/** Says what the daemon refused, until it is closed. */
export function refusal(message) {
  const note = said(message, { class: "toast alarming stays", role: "alert" });
  note.append(make("button", { "aria-label": "Close" }, "×")); // a click anywhere on the note does it
}

function said(message, attributes) {
  const notes = [...$("toasts").children];
  for (const note of notes) if (note.firstChild.textContent === message) note.remove();
  const passing = notes.filter((note) => !note.matches(".stays")); // these make room first
  for (const note of [...passing, ...notes]) if ($("toasts").children.length >= MOST_TOASTS) note.remove();
  const note = make("p", attributes, make("span", {}, message));
  note.addEventListener("click", () => note.remove()); // it may lie on what is needed now
  $("toasts").append(note);
  return note;
}
