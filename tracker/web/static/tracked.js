// The objects of the stream on screen: asked for, one of them selected, and what can be done with each.

import { ask } from "./asking.js";
import { $, toast } from "./dom.js";
import { Objects } from "./objects.js";

export class Tracked {
  constructor(app) {
    this.app = app;
    this.list = new Objects($("objects"), $("no-objects"), this.actions());
    this.wanted = false;
    this.busy = false;
  }

  actions() {
    const { app } = this;
    return {
      select: (object) => this.select(object === app.view.selected ? null : object),
      jump: (object) => this.jump(object),
      correct: (object) => this.correct(object),
      rename: (object, label, late) =>
        app.link.call("objects.update", { stream: app.selected, object, label }, late).then(() => void this.load()),
      similar: (object) => app.similar.search(app.selected, object),
      remove: (object) => ask(app.link, "objects.remove", { stream: app.selected, object }).then(() => this.load()),
    };
  }

  select(object) {
    const { view, watchList, selected } = this.app;
    view.selected = object;
    view.draw();
    this.mark();
    watchList.select(selected, object);
  }

  mark() {
    const { view, prompt } = this.app;
    this.list.mark(view.selected, prompt.correcting);
  }

  jump(object) {
    const { view } = this.app;
    const box = view.picture?.tracks?.objects.find((record) => record.object === object)?.box;
    this.select(object);
    if (box) view.zoomTo(box);
    else toast(`object ${object} is not in sight`);
    this.app.look();
  }

  correct(object) {
    const { prompt, everything, zones } = this.app;
    if (prompt.correcting === object) return prompt.leave();
    zones.leave();
    everything.drop();
    this.select(object);
    prompt.startCorrecting(object);
    $("view").focus();
  }

  /** One request at a time, however many events come. */
  async load() {
    this.wanted = true;
    if (this.busy) return;
    this.busy = true;
    while (this.wanted && this.app.selected) {
      this.wanted = false;
      await this.fetch(this.app.selected);
    }
    this.busy = false;
  }

  async fetch(stream) {
    const { app } = this;
    try {
      const { objects } = await app.link.call("objects.list", { stream });
      if (stream !== app.selected) return;
      this.list.update(objects);
      this.forgetAllBut(new Set(objects.map(({ object }) => object)));
      if (app.records.get(stream)?.state !== "live") app.still.show(); // no picture comes that would have them
    } catch (error) {
      if (!["unavailable", "unknown_stream"].includes(error.code)) toast(error.message, true);
    }
  }

  /** What is not tracked any more is neither selected nor corrected. */
  forgetAllBut(objects) {
    const { view, prompt } = this.app;
    const { correcting } = prompt;
    if (view.selected !== null && !objects.has(view.selected)) this.select(null);
    if (correcting === null || objects.has(correcting)) return;
    prompt.leave();
    toast(`object ${correcting} was removed`);
  }
}
