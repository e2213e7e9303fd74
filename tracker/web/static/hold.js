// Stopping the picture, stepping through the buffer, and asking the daemon to keep the frame meanwhile.

import { fetchFrame } from "./pictures.js";
import { toast } from "./dom.js";

const PIN_S = 30;
const RENEW_MS = 10_000;

export class Hold {
  /** `tracksOf(stream, frame)` finds the tracks of a frame that was seen live; `moved()` is told once another frame is
   * held than before. */
  constructor(view, tracksOf, { changed, moved }) {
    Object.assign(this, { view, tracksOf, changed, moved });
    this.frame = null; // held
    this.stream = null;
    this.period = null; // another one each time a picture is held: a frame that comes late is of none
    this.steps = Promise.resolve(); // fetches, one after the other
    this.target = null; // the frame that was asked for last, until it is shown
    setInterval(() => this.renew(), RENEW_MS);
  }

  get held() {
    return this.frame !== null;
  }

  /** Holds the picture that is shown. */
  here() {
    const { picture } = this.view;
    if (!picture || this.held) return;
    this.frame = picture.frame;
    this.stream = picture.stream;
    this.period = {};
    this.renew();
    this.changed();
  }

  release() {
    if (!this.held) return;
    this.frame = null;
    this.stream = null;
    this.period = null;
    this.target = null;
    this.changed();
  }

  renew() {
    if (!this.held) return;
    const options = { pin_s: PIN_S, max_width: 16 };
    fetchFrame(this.stream, this.frame, options).catch(() => {}); // a prompt on a frame that is gone says so itself
  }

  /** Shows another buffered frame; of those asked for while one is on its way, only the last. */
  goTo(frame) {
    this.here();
    if (!this.held) return this.steps;
    const idle = this.target === null;
    this.target = Math.max(0, frame);
    if (idle) this.steps = this.steps.then(() => this.follow());
    return this.steps;
  }

  step(count) {
    this.here();
    return this.goTo((this.target ?? this.frame) + count);
  }

  async follow() {
    const { stream, period } = this;
    while (period === this.period && this.target !== null) {
      const frame = this.target;
      await this.fetch(stream, frame, period);
      if (period === this.period && this.target === frame) this.target = null;
    }
  }

  async fetch(stream, frame, period) {
    try {
      const options = { pin_s: PIN_S, max_width: Math.max(320, this.view.sourceWidth) };
      const picture = await fetchFrame(stream, frame, options);
      if (period !== this.period) return picture.bitmap.close();
      const another = picture.frame !== this.frame;
      this.frame = picture.frame;
      this.view.show({ ...picture, tracks: this.tracksOf(stream, picture.frame) });
      this.changed();
      if (another) this.moved();
    } catch (error) {
      toast(error.message, true);
    }
  }
}
