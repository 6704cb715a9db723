// Small questions in a dialog: a line of text, or only something to read.
import { showPassing } from "../js/passing_dialog.js";

export function ask({ title, label, value = "", long = false, verb = "Save" }) {
  const field = document.createElement(long ? "textarea" : "input");
  field.className = "input";
  field.value = value;
  if (long) field.rows = 5;
  else field.autocomplete = "off";
  return show({ title, verb, body: labelled(label, field), result: () => field.value.trim(), focus: field });
}

export function tell({ title, body }) {
  const place = document.createElement("div");
  place.className = "pick-body";
  // What is longer than the window is scrolled with the arrow keys.
  place.tabIndex = 0;
  place.append(body);
  return show({ title, verb: "Close", body: place, result: () => null, focus: place });
}

function labelled(label, field) {
  const wrapped = document.createElement("label");
  wrapped.className = "pick-label";
  const words = document.createElement("span");
  words.textContent = label;
  wrapped.append(words, field);
  return wrapped;
}

function show({ title, verb, body, result, focus }) {
  const dialog = document.createElement("dialog");
  dialog.className = "pick";
  dialog.dataset.testid = "ask";
  const form = document.createElement("form");
  form.method = "dialog";
  const heading = document.createElement("h2");
  heading.className = "pick-title";
  heading.id = "ask-title";
  heading.textContent = title;
  dialog.setAttribute("aria-labelledby", heading.id);
  const button = document.createElement("button");
  button.className = "button filled";
  button.value = "yes";
  button.textContent = verb;
  const row = document.createElement("p");
  row.className = "row";
  row.append(button);
  form.append(heading, body, row);
  dialog.append(form);
  return new Promise((resolve) => {
    const leave = showPassing(dialog, (value) => resolve(value === "yes" ? result() : null));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      leave("yes");
    });
    dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      leave("yes");
    });
    (focus ?? button).focus();
    focus?.select?.();
  });
}
