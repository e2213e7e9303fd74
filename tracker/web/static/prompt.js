// Marks on a held frame, what the model makes of them, and what becomes of that: a new object or a correction.

import { fill, pathOf, stroke } from "./outline.js";

const CANDIDATE = "#ffffff";
const ON = "#35d07f";
const OFF = "#ff5d5d";

export class Prompt {
  constructor(link, view, hold, changed, refused) {
    Object.assign(this, { link, view, hold, changed, refused });
    this.correcting = null; // object id: marks correct it at once
    this.asked = 0; // counts requests, so that a late answer is known as such
    this.stale = false; // nobody was asked yet about the marks on the frame that is held
    this.following = false;
    this.added = null; // the daemon's answer for the last new object, on the frame of its marks
    this.reset();
    view.layers.push((context, scale) => this.draw(context, scale));
  }

  reset() {
    this.marked = {}; // another one with each mark that is set
    this.dragged = null; // box while it is drawn
    this.corner = null; // where a box began by key
    this.points = [];
    this.labels = [];
    this.box = null;
    this.candidates = [];
    this.chosen = 0;
    this.byChoice = false;
    this.waiting = false;
  }

  get active() {
    return this.points.length > 0 || this.box !== null;
  }

  /** A point on the object, or on what is not the object. */
  async point(xy, on) {
    if (!this.view.picture || (!on && !this.active && this.correcting === null)) {
      if (!on) this.refused(new Error("begin with a point on the object"));
      return;
    }
    this.hold.here();
    if (this.correcting !== null) return this.correct({ points: [xy], labels: [on ? 1 : 0] });
    this.marked = {};
    this.points.push(xy);
    this.labels.push(on ? 1 : 0);
    await this.preview();
  }

  async setBox(box) {
    if (!this.view.picture) return;
    this.hold.here();
    if (this.correcting !== null) return this.correct({ box, replace: true });
    this.marked = {};
    this.points = [];
    this.labels = [];
    this.box = box;
    await this.preview();
  }

  marks() {
    return {
      ...(this.points.length ? { points: this.points, labels: this.labels } : {}),
      ...(this.box ? { box: this.box } : {}),
    };
  }

  /** Asks for candidates on the held frame; only the answer to the newest marks counts. */
  async preview() {
    const asked = ++this.asked;
    const { stream, frame } = this.hold;
    this.stale = false;
    const ambiguous = this.points.length === 1 && !this.box;
    this.waiting = true;
    this.update();
    try {
      const result = await this.link.call("segment.prompt", { stream, frame, ...this.marks(), multimask: ambiguous });
      if (asked !== this.asked) return;
      this.candidates = result.candidates.filter((candidate) => candidate.outline.length);
      this.chosen = 0;
      this.byChoice = false;
      if (!this.candidates.length) this.refused(new Error("the model sees no object there"));
    } catch (error) {
      if (asked === this.asked) this.refused(error);
    } finally {
      if (asked === this.asked) this.waiting = false;
      this.update();
    }
  }

  /** Another frame is held: what was seen around the marks belongs to the one before, so they are asked about again.
   * Frames that pass by while an answer is awaited are left out. */
  async follow() {
    if (!this.active) return;
    this.asked += 1;
    this.stale = true;
    this.candidates = [];
    this.waiting = true;
    this.update();
    if (this.following) return;
    this.following = true;
    while (this.active && this.stale) await this.preview();
    this.following = false;
  }

  choose(index) {
    if (index >= this.candidates.length) return;
    this.chosen = index;
    this.byChoice = true;
    this.update();
  }

  /** Tracks what is previewed: the marks, or the very mask where another candidate was chosen. */
  async accept() {
    if (!this.active || this.accepting) return;
    const { stream, frame } = this.hold;
    const candidate = this.candidates[this.chosen];
    const size = this.view.picture.size;
    const marks = this.byChoice && candidate ? { drawing: { outline: candidate.outline, size } } : this.marks();
    const { marked } = this;
    this.accepting = true;
    try {
      this.added = await this.link.call("objects.add", { stream, frame, ...marks });
      if (marked === this.marked) this.leave();
    } catch (error) {
      this.refused(error);
    } finally {
      this.accepting = false;
    }
  }

  async correct(marks) {
    const { stream, frame } = this.hold;
    try {
      const { frame: at, ...record } = await this.link.call("objects.refine", {
        stream,
        frame,
        object: this.correcting,
        ...marks,
      });
      if (this.hold.stream === stream && this.hold.frame === at) this.redraw(record);
    } catch (error) {
      this.refused(error);
    }
  }

  /** The corrected outline in place of the old one, on the frame that it belongs to. */
  redraw(record) {
    const { picture } = this.view;
    const others = (picture.tracks?.objects ?? []).filter((object) => object.object !== record.object);
    picture.tracks = { ...picture.tracks, objects: [...others, record] };
    this.update();
  }

  startCorrecting(object) {
    this.leave();
    this.correcting = object;
    this.hold.here();
    this.update();
  }

  /** Leaves everything as it is and shows the live picture again. */
  leave() {
    this.drop();
    this.hold.release();
  }

  /** Leaves everything as it is; the picture stays held. */
  drop() {
    this.reset();
    this.asked += 1;
    this.correcting = null;
    this.update();
  }

  update() {
    this.view.draw();
    this.changed();
  }

  draw(context, scale) {
    this.candidates.forEach(({ outline }, index) => {
      if (index !== this.chosen) return;
      const path = pathOf(outline);
      fill(context, path, CANDIDATE, 0.28);
      stroke(context, path, CANDIDATE, { width: 2.5, scale });
    });
    const box = this.dragged ?? this.box;
    if (box) {
      const path = new Path2D();
      path.rect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
      stroke(context, path, ON, { scale, dash: [6, 4] });
    }
    this.points.forEach(([x, y], index) => this.drawPoint(context, x, y, this.labels[index] === 1, scale));
  }

  drawPoint(context, x, y, on, scale) {
    const path = new Path2D();
    const r = 6 / scale;
    path.arc(x, y, r, 0, 7);
    fill(context, path, on ? ON : OFF, 0.9);
    const sign = new Path2D();
    sign.moveTo(x - r / 2, y);
    sign.lineTo(x + r / 2, y);
    if (on) {
      sign.moveTo(x, y - r / 2);
      sign.lineTo(x, y + r / 2);
    }
    stroke(context, sign, "#fff", { width: 1.5, scale });
  }
}
