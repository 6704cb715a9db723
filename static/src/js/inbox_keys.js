// Keys of the inbox: j k move, a approve, e edit, r reject, c request changes, / search. Never while typing.
const PARTS = { e: "edit", r: "reject", c: "request-changes" };

export function inboxKeys(page) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      document.activeElement?.blur();
      for (const open of page.querySelectorAll("details[data-part][open]")) open.open = false;
      return;
    }
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    if (event.key === "j" || event.key === "k") {
      move(page, event.key === "j" ? 1 : -1);
    } else if (event.key === "/") {
      page.querySelector("input[type=search]")?.focus();
    } else if (event.key === "a") {
      // While a form is open its own button answers.
      if (!page.querySelector("details[data-part][open]")) page.querySelector("[data-action=approve]")?.click();
    } else if (PARTS[event.key]) {
      const part = page.querySelector(`details[data-part=${PARTS[event.key]}]`);
      if (!part) return;
      part.open = true;
      show(part);
    } else {
      return;
    }
    event.preventDefault();
  });
  for (const summary of page.querySelectorAll("details[data-part] > summary")) {
    // The browser opens it after the click.
    summary.addEventListener("click", () => setTimeout(() => summary.parentElement.open && show(summary.parentElement)));
  }
  page.querySelector("#problem")?.focus();
  // One open at a time: the filled button is never in doubt.
  for (const part of page.querySelectorAll("details[data-part]")) {
    part.addEventListener("toggle", () => {
      if (!part.open) return;
      for (const other of page.querySelectorAll("details[data-part][open]")) if (other !== part) other.open = false;
    });
  }
}

function show(part) {
  part.querySelector("textarea, input:not([type=hidden]), select")?.focus({ preventScroll: true });
  part.scrollIntoView({ block: "nearest" });
}

function move(page, by) {
  const rows = [...page.querySelectorAll("[data-request-id] a, a[data-request-id]")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.getAttribute("aria-current") === "true" || row === document.activeElement);
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + by))] ?? rows[0];
  if (next) next.click();
}
