// What the server draws beside the canvas follows the draft: after a change the page says which version it shows and
// is told what looks different since. One request at a time, and one more when something happened meanwhile; nothing
// is asked for while nobody sees it. What was missed is asked for again until it is here.
const COALESCE = 150;
const AGAIN_MS = 1000;
const LONGEST_MS = 15000;
const LATER = new Set([0, 408, 425, 429, 500, 502, 503, 504]);

/** version: the one on show; isSeen(): whether anybody can see it now; take(news, at): shows what the server told. */
export function makeNews({ address, isPrivate, version, isSeen, take }) {
  let shown = version;
  let heard = version;
  let tries = 0;
  let timer = 0;
  let isAsking = false;
  let last = Promise.resolve();

  /** One after another, so that each answer starts from what is shown. */
  function alone(act) {
    const mine = last.then(act);
    last = mine.catch(() => {});
    return mine;
  }

  function look(after = COALESCE) {
    if (timer || isAsking || heard <= shown || !isSeen()) return;
    timer = setTimeout(() => {
      timer = 0;
      isAsking = true;
      alone(ask).finally(() => {
        isAsking = false;
        look(tries ? Math.min(AGAIN_MS * 2 ** (tries - 1), LONGEST_MS) : COALESCE);
      });
    }, after);
  }

  async function ask() {
    const wanted = heard;
    if (wanted <= shown) return;
    const query = new URLSearchParams({ after: shown, ...(isPrivate ? { private: "1" } : {}) });
    const answer = await fetch(`${address}/news?${query}`, { headers: { Accept: "application/json" } }).catch(() => ({ status: 0 }));
    // Whoever is signed out meanwhile is answered with the page to sign in.
    const news = answer.ok ? await answer.json().catch(() => null) : null;
    if (!news) {
      tries += 1;
      // Gone, or no longer ours: asking again changes nothing.
      if (!answer.ok && !LATER.has(answer.status)) heard = shown;
      return;
    }
    tries = 0;
    put(news);
    // A change without a number, or of a draft that was made anew: what was told is all there is.
    if (heard === wanted) heard = shown;
  }

  function put(news, at) {
    shown = news.version;
    heard = Math.max(heard, shown);
    take(news, at);
  }

  const soon = () => {
    clearTimeout(timer);
    timer = 0;
    look(0);
  };
  document.addEventListener("visibilitychange", soon);
  addEventListener("online", soon);

  return {
    get shown() {
      return shown;
    },
    /** The draft is at this version now; without a number, at some later one. */
    hear(number) {
      heard = Math.max(heard, number ?? shown + 1);
      look();
    },
    /** Somebody sees it again. */
    soon,
    alone,
    put,
  };
}
