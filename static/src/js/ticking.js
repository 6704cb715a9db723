// Lengths of time that are still growing tick on between two messages of the server.
function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  const units = [["min", 60, "s", 1, 3600], ["h", 3600, "min", 60, 86400], ["d", 86400, "h", 3600, Infinity]];
  for (const [unit, size, small, smallSize, below] of units) {
    if (seconds < below) {
      const rest = Math.floor((seconds % size) / smallSize);
      return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
    }
  }
  return "";
}

function tick(root) {
  const now = Date.now();
  for (const element of root.querySelectorAll("[data-tick]")) {
    const then = Date.parse(element.dataset.since ?? element.dateTime);
    const passed = (now - then) / 1000;
    if (element.dataset.tick === "span") element.textContent = span(passed);
    else if (element.dataset.tick === "ago") element.textContent = passed < 5 ? "just now" : `${span(passed)} ago`;
    else element.textContent = passed < 0 ? `in ${span(-passed)}` : "overdue";
  }
}

export function ticking(root) {
  setInterval(() => {
    if (!document.hidden) tick(root);
  }, 1000);
}
