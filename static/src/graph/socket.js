// The draft's socket: what others do, and who is here (apps/web/draft_socket.py).

const BEAT_MS = 15000;
const GONE = 4400;

/** after(): the version on show; what follows it is told, also after the connection was gone. */
export function openSocket({ draft, after, hear }) {
  const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/drafts/${draft}`;
  let socket = null;
  let isClosed = false;
  let tries = 0;
  let selected = [];
  let timer = 0;

  const send = (message) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
  const connect = () => {
    socket = new WebSocket(`${address}?after=${after()}`);
    socket.addEventListener("open", () => {
      tries = 0;
      send({ type: "select", nodes: selected });
      // What follows the version is told by itself; a test that began meanwhile is not.
      hear({ type: "test" });
    });
    socket.addEventListener("message", (event) => {
      try {
        hear(JSON.parse(event.data));
      } catch {
        // Not for us.
      }
    });
    socket.addEventListener("close", (event) => {
      if (isClosed || event.code >= GONE) return;
      tries += 1;
      timer = setTimeout(connect, Math.min(500 * 1.5 ** tries, 10000) * (0.75 + Math.random() / 2));
    });
  };
  connect();
  const beat = setInterval(() => send({ type: "ping" }), BEAT_MS);
  return {
    select(nodes) {
      selected = nodes;
      send({ type: "select", nodes });
    },
    close() {
      isClosed = true;
      clearInterval(beat);
      clearTimeout(timer);
      socket.close();
    },
  };
}
