// The draft's socket: what others do, and who is here. Everything missed while it was gone comes with the next view.

const BEAT_MS = 15000;
const GONE = 4400;

export function openSocket({ draft, hear, reconnected }) {
  const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/drafts/${draft}`;
  let socket = null;
  let isClosed = false;
  let tries = 0;
  let selected = [];
  let timer = 0;

  const send = (message) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
  const connect = () => {
    socket = new WebSocket(address);
    socket.addEventListener("open", () => {
      if (tries) reconnected();
      tries = 0;
      send({ type: "select", nodes: selected });
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
