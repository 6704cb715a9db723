// Small questions in a dialog: a line of text, or only something to read.

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
  document.body.append(dialog);
  const before = document.activeElement;
  return new Promise((resolve) => {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) dialog.close("yes");
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before?.isConnected) before.focus({ preventScroll: true });
      resolve(dialog.returnValue === "yes" ? result() : null);
    });
    dialog.showModal();
    (focus ?? button).focus();
    focus?.select?.();
  });
}
