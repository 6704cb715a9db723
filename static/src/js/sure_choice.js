// A form whose choices bring another form anew: where that one cannot be brought, the old one is not sent as if it were
// what is chosen now.
const WORDS = "What is chosen could not be looked at just now, so nothing can be started.";

export function sureChoice(form) {
  const note = document.createElement("p");
  note.className = "note wait row";
  note.setAttribute("role", "alert");
  const again = document.createElement("button");
  again.type = "button";
  again.className = "button";
  again.textContent = "Look again";
  again.addEventListener("click", () => window.htmx.trigger(form, "change"));
  note.append(WORDS, again);

  for (const kind of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
    form.addEventListener(kind, () => {
      document.querySelector(form.getAttribute("hx-target")).inert = true;
      form.append(note);
    });
  }
  document.addEventListener("htmx:afterSwap", ({ detail }) => detail.requestConfig?.elt === form && note.remove());
  addEventListener("online", () => note.isConnected && again.click());
}
