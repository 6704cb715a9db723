// A form is sent once: a double click starts one run. Coming back to the page makes it usable again.
export function once(root) {
  root.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || form.hasAttribute("hx-post") || event.defaultPrevented) return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    const button = event.submitter;
    if (button) button.setAttribute("aria-disabled", "true");
  });
  window.addEventListener("pageshow", () => {
    for (const form of root.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
    for (const button of root.querySelectorAll("[aria-disabled]")) button.removeAttribute("aria-disabled");
  });
}
