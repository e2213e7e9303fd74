// The page's address: which stream it names, and whether it is a wall's, which shows only the picture.

export const kiosk = new URLSearchParams(location.search).has("kiosk");

/** The stream that the address names; null where it names none. */
export function streamNamed() {
  const name = location.pathname.match(/^\/s\/([^/]+)$/)?.[1] ?? "";
  try {
    return decodeURIComponent(name) || null;
  } catch {
    return name; // no text in UTF-8: there is no such stream, which the page says
  }
}

/** From now on it names this stream; the one before is a step back. */
export function name(stream) {
  history.pushState(null, "", `/s/${encodeURIComponent(stream)}${location.search}`);
}

/** It names a stream that is gone no longer. */
export function nameNone() {
  history.replaceState(null, "", `/${location.search}`);
}
