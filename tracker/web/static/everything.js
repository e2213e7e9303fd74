// Everything in a frame: found on request, picked by hovering and clicking, tracked together.

import { colourOf } from "./palette.js";
import { fill, pathOf, stroke } from "./outline.js";

// Somebody looks at what is found, so it may be less sure than what is tracked unseen. 32 points a side would find
// smaller things, in four times the time.
const SEARCH = { points_per_side: 16, pred_iou_thresh: 0.7, stability_score_thresh: 0.85, exclusive: true };

export class Everything {
  /** `begun()` is told before a search. */
  constructor(link, view, hold, { changed, refused, begun }) {
    Object.assign(this, { link, view, hold, changed, refused, begun });
    this.reset();
    view.layers.push((context, scale) => this.draw(context, scale));
  }

  reset() {
    this.job = null; // id of a running search
    this.progress = 0;
    this.masks = [];
    this.picked = new Set(); // indices
    this.hovered = null;
  }

  get active() {
    return this.job !== null || this.masks.length > 0;
  }

  async find() {
    if (this.active || !this.view.picture) return;
    this.begun();
    this.hold.here();
    const job = `page-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    this.job = job;
    this.changed();
    const { stream, frame } = this.hold;
    try {
      const args = { stream, frame, job, ...SEARCH };
      const { masks } = await this.link.call("segment.all", args);
      if (this.job !== job) return;
      if (!masks.length) throw new Error("nothing was found in this picture");
      this.masks = masks.map((mask) => ({ ...mask, path: pathOf(mask.outline) }));
      this.job = null;
    } catch (error) {
      if (this.job !== job) return; // the user left it
      this.leave();
      this.refused(error);
    }
    this.update();
  }

  /** Takes in a `segment_progress` event. */
  advance({ id, done, total }) {
    if (id !== this.job) return;
    this.progress = total ? done / total : 0;
    this.changed();
  }

  hover(xy) {
    const found = xy ? this.at(xy) : null;
    if (found === this.hovered) return;
    this.hovered = found;
    this.view.draw();
  }

  /** Index of the smallest mask at a source pixel. */
  at([x, y]) {
    const { context } = this.view;
    context.setTransform(1, 0, 0, 1, 0, 0);
    const hits = [...this.masks.keys()].filter((i) => context.isPointInPath(this.masks[i].path, x, y, "evenodd"));
    return hits.sort((a, b) => this.masks[a].area - this.masks[b].area)[0] ?? null;
  }

  pick(xy) {
    const index = this.at(xy);
    if (index === null) return;
    if (!this.picked.delete(index)) this.picked.add(index);
    this.update();
  }

  async accept() {
    if (this.accepting) return;
    this.accepting = true;
    await this.trackPicked(this.masks, this.picked);
    this.accepting = false;
  }

  /** What is refused stays picked; once the user has left it, no more is tracked. */
  async trackPicked(masks, picked) {
    const { stream, frame } = this.hold;
    const size = this.view.picture.size;
    for (const index of [...picked]) {
      try {
        await this.link.call("objects.add", { stream, frame, drawing: { outline: masks[index].outline, size } });
      } catch (error) {
        this.refused(error);
        return this.update();
      }
      if (this.masks !== masks) return;
      picked.delete(index);
    }
    this.leave();
  }

  /** The daemon was restarted: it knows nothing of a search. */
  lose() {
    if (this.job === null) return;
    this.leave();
    this.refused(new Error("the search is lost: the daemon was restarted"));
  }

  leave() {
    this.drop();
    this.hold.release();
  }

  /** What is found or looked for goes; the picture stays held. */
  drop() {
    if (this.job) this.link.call("segment.cancel", { id: this.job }).catch(() => {});
    this.reset();
    this.update();
  }

  update() {
    this.view.draw();
    this.changed();
  }

  draw(context, scale) {
    this.masks.forEach(({ path }, index) => {
      const picked = this.picked.has(index);
      const opacity = picked ? 0.55 : index === this.hovered ? 0.4 : 0.12;
      fill(context, path, colourOf(index), opacity);
      stroke(context, path, picked ? "#fff" : colourOf(index), { width: picked ? 2.5 : 1, scale });
    });
  }
}
