// The kill button: the page stays, because on a laptop the process that would answer is the one that dies.
import { token } from "./csrf.js";

export function killWorker(form) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.setAttribute("aria-disabled", "true");
    try {
      await fetch(form.action, { method: "POST", body: new FormData(form), headers: { "X-CSRFToken": token() } });
    } catch {
      // It died before it could answer, as asked.
    }
    setTimeout(() => button.removeAttribute("aria-disabled"), 4000);
  });
}
