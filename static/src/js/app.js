// Mounts every behaviour on the elements that ask for it. A page without scripts works the same, only less lively.
import "./command_palette.js";
import "./csrf.js";
import { liveSettings } from "./live.js";
import { once } from "./once.js";
import { submitNow } from "./submit_now.js";
import { ticking } from "./ticking.js";
import { timeZone } from "./time_zone.js";
import { followStep } from "./follow_step.js";
import { inboxKeys } from "./inbox_keys.js";
import { killWorker } from "./kill_worker.js";
import { runCanvas } from "./run_canvas.js";
import { showMark } from "./show_mark.js";
import { stepPanel } from "./step_panel.js";

const behaviours = {
  "follow-step": followStep,
  "submit-now": submitNow,
  "inbox-keys": inboxKeys,
  "kill-worker": killWorker,
  "run-canvas": runCanvas,
  "show-mark": showMark,
  "step-panel": stepPanel,
};

function mount(root) {
  for (const element of root.querySelectorAll("[data-controller]")) {
    for (const name of element.dataset.controller.split(" ")) {
      if (behaviours[name] && !element.dataset.mounted?.split(" ").includes(name)) {
        element.dataset.mounted = `${element.dataset.mounted ?? ""} ${name}`.trim();
        behaviours[name](element);
      }
    }
  }
}

// Before htmx connects its sockets, which it does when the document is ready.
liveSettings(window.htmx);
timeZone(document);
mount(document);
once(document);
ticking(document);
document.addEventListener("htmx:load", (event) => mount(event.target.parentElement ?? document));
document.addEventListener("htmx:wsAfterMessage", () => mount(document));
