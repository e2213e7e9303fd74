// JPEGs to bitmaps, the newest of each stream: while one is decoded, an older one that waits gives way.

export class Pictures {
  /** `show(picture)` gets {stream, frame, time, size, aspect, bitmap, tracks}; `done(stream)` follows each one taken in. */
  constructor(show, done) {
    this.show = show;
    this.done = done;
    this.waiting = new Map();
    this.busy = new Set();
    this.skipped = 0;
  }

  put(head, jpeg) {
    const { stream } = head.frame;
    if (this.waiting.has(stream)) {
      this.skipped += 1;
      this.done(stream);
    }
    this.waiting.set(stream, { head, jpeg });
    if (!this.busy.has(stream)) this.work(stream);
  }

  async work(stream) {
    this.busy.add(stream);
    while (this.waiting.has(stream)) {
      const { head, jpeg } = this.waiting.get(stream);
      this.waiting.delete(stream);
      try {
        const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
        const { frame, time, size, pixel_aspect: [across, down] = [1, 1] } = head.frame;
        this.show({ stream, frame, time, size, aspect: across / down, bitmap, tracks: head.tracks });
      } catch (error) {
        console.error("a picture could not be shown", error);
      }
      this.done(stream);
    }
    this.busy.delete(stream);
  }
}

/** A buffered frame by its number, or "newest"; null where there is none yet. Throws what the daemon refuses. */
export async function fetchFrame(stream, frame, options = {}) {
  const query = new URLSearchParams(options);
  const response = await fetch(`/frames/${encodeURIComponent(stream)}/${frame}?${query}`);
  if (!response.ok) {
    const refusal = await response.json().catch(() => ({ message: response.statusText, code: "internal" }));
    throw Object.assign(new Error(refusal.message), { code: refusal.code });
  }
  const size = response.headers.get("x-size").split("x").map(Number);
  const [across, down] = (response.headers.get("x-pixel-aspect") ?? "1x1").split("x").map(Number);
  const [number, time] = ["x-frame", "x-time"].map((name) => Number(response.headers.get(name)));
  const bitmap = await createImageBitmap(await response.blob());
  return { stream, frame: number, time, size, aspect: across / down, bitmap, tracks: null };
}

/** The last frame that a stream has buffered, with the objects that were seen on it: what there is to show of a
 * stream that sends nothing new, be it paused, over, stalled or failed. */
export async function fetchLast(link, stream, maxWidth) {
  const { objects } = await link.call("objects.list", { stream });
  const options = { max_width: maxWidth };
  const tracked = objects.length ? Math.max(...objects.map(({ frame }) => frame)) : "newest";
  const picture = await fetchFrame(stream, tracked, options).catch(() => fetchFrame(stream, "newest", options));
  return { ...picture, tracks: { objects: objects.filter(({ frame }) => frame === picture.frame) } };
}
