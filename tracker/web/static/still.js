// The last frame of the stream on screen, where no picture of it comes: it is paused, over, stalled or failed.

import { fetchLast } from "./pictures.js";

export class Still {
  constructor(app) {
    this.app = app;
    this.wanted = false;
    this.busy = false;
  }

  /** Shows it unless a newer picture comes first; asked for again meanwhile, it is fetched once more. */
  async show() {
    this.wanted = true;
    if (this.busy) return;
    this.busy = true;
    while (this.wanted && this.app.records.get(this.app.selected)?.buffer.newest != null) {
      this.wanted = false;
      await this.fetch(this.app.selected, this.app.view.picture);
    }
    this.busy = false;
  }

  async fetch(stream, before) {
    const { app } = this;
    const wanted = fetchLast(app.link, stream, Math.max(320, app.view.sourceWidth));
    const picture = await wanted.catch(() => null); // the state says why there is none
    if (!picture) return;
    const late = stream !== app.selected || app.view.picture !== before || app.hold.held;
    if (late) return picture.bitmap.close();
    app.tiles.tiles.get(stream)?.draw(picture);
    app.view.show(picture);
    app.tracked.list.picture(picture);
    app.controls.still(picture);
  }
}
