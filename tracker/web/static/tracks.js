// What was published of each stream's last frames, for stepping back.

const HISTORY = 400; // frames of a stream

export class Tracks {
  constructor() {
    this.kept = new Map(); // stream -> the last tracks, the oldest first
  }

  keep(stream, tracks) {
    const kept = this.kept.get(stream) ?? [];
    if (kept.at(-1)?.instance !== tracks.instance) kept.length = 0; // frames are counted anew
    kept.push(tracks);
    if (kept.length > HISTORY) kept.shift();
    this.kept.set(stream, kept);
  }

  of(stream, frame) {
    return this.kept.get(stream)?.find((tracks) => tracks.frame === frame) ?? null;
  }

  /** Of the streams that there are; `records` by stream. */
  forgetAllBut(records) {
    for (const stream of this.kept.keys()) if (!records.has(stream)) this.kept.delete(stream);
  }
}
