// A run's socket for who only has to know that something happened: the events carry the cursor, so that nothing is
// missed while the connection is away (apps/web/consumers.py).
const GONE = 4400;

/** after: seq of what is on show; hear(): something happened since. isOpen() tells whether it would be heard of now. */
export function runNews({ run, after, hear }) {
  const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/runs/${run}`;
  let socket = null;
  let seen = after;
  let tries = 0;
  let timer = 0;
  let isClosed = false;

  function connect() {
    socket = new WebSocket(`${address}?format=json&after=${seen}`);
    socket.addEventListener("open", () => (tries = 0));
    socket.addEventListener("message", (event) => {
      seen = Math.max(seen, Number(JSON.parse(event.data).seq) || 0);
      hear();
    });
    socket.addEventListener("close", (event) => {
      if (isClosed || event.code >= GONE) return;
      tries += 1;
      timer = setTimeout(connect, Math.min(500 * 1.5 ** tries, 10000) * (0.75 + Math.random() / 2));
    });
  }
  connect();
  return {
    run,
    isOpen: () => socket.readyState === WebSocket.OPEN,
    close() {
      isClosed = true;
      clearTimeout(timer);
      socket.close();
    },
  };
}
