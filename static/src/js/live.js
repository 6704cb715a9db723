// The socket of a page: reconnects calmly, asks for what follows the last seq it has seen, and keeps the focus.
const CLOSED = { 4401: "out", 4404: "gone" };

export function liveSettings(htmx) {
  if (!htmx) return;
  // Often for the first ten seconds, because a restarted laptop is back by then; later seldom. Jitter spreads pages.
  htmx.config.wsReconnectDelay = (tries) => Math.min(500 * 1.5 ** Math.max(0, tries - 20), 8000) * (0.75 + Math.random() / 2);
  htmx.createWebSocket = (url) => new WebSocket(withCursor(url));

  document.addEventListener("htmx:wsOpen", (event) => say(event.target, "on"));
  document.addEventListener("htmx:wsClose", (event) => {
    const { event: closed, socketWrapper } = event.detail;
    if (closed.code >= 4400) {
      say(event.target, CLOSED[closed.code] ?? "off");
      return;
    }
    say(event.target, "off");
    // The extension retries after abnormal ends only; a server that goes down in good order comes back too.
    if ([1000, 1001, 1005].includes(closed.code) && document.contains(event.target)) {
      setTimeout(() => socketWrapper.reconnect(), 1000);
    }
  });

  let focused = "";
  document.addEventListener("htmx:wsBeforeMessage", () => {
    focused = document.activeElement?.id ?? "";
  });
  document.addEventListener("htmx:wsAfterMessage", () => {
    if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus({ preventScroll: true });
  });
}

function withCursor(url) {
  const cursor = document.getElementById("run-cursor");
  if (!cursor || !url.includes("/ws/runs/")) return url;
  const address = new URL(url);
  address.searchParams.set("after", cursor.dataset.seq);
  return address.href;
}

const WORDS = { on: "Live", off: "Reconnecting…", gone: "Not connected", out: "Signed out" };

function say(socketElement, state) {
  for (const sign of socketElement.querySelectorAll("[data-live]")) {
    sign.dataset.live = state;
    sign.textContent = WORDS[state];
  }
}
