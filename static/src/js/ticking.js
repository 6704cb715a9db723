// Lengths of time that are still growing tick on between two messages of the server.
import { span } from "../graph/core/span.js";

const words = (seconds) => span(seconds, { whole: true });

function tick(root) {
  const now = Date.now();
  for (const element of root.querySelectorAll("[data-tick]")) {
    const then = Date.parse(element.dataset.since ?? element.dateTime);
    const passed = (now - then) / 1000;
    if (element.dataset.tick === "span") element.textContent = words(passed);
    else if (element.dataset.tick === "ago") element.textContent = passed < 5 ? "just now" : `${words(passed)} ago`;
    else element.textContent = passed < 0 ? `in ${words(-passed)}` : "overdue";
  }
}

export function ticking(root) {
  setInterval(() => {
    if (!document.hidden) tick(root);
  }, 1000);
}
