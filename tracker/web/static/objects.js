// The list of a stream's objects: what each looks like, what it is called, how it has been; and what can be done.

import { drawChart, keepMinute } from "./chart.js";
import { make, show, text } from "./dom.js";
import { Form } from "./form.js";
import { colourOf } from "./palette.js";
import { frames } from "./wording.js";

const TEXTS_MS = 250;
const THUMBNAIL_MS = 4000;
const CHART_MS = 1000;
const CHART = "area (filled) and score (line) over the last minute";

export class Objects {
  /** `actions`: select, jump, correct, rename, similar, remove; each takes an object id. */
  constructor(list, empty, actions) {
    Object.assign(this, { list, empty, actions });
    this.rows = new Map(); // object id -> Row
    this.inSight = new IntersectionObserver((entries) => this.note(entries)); // only there pictures and charts are drawn
    this.refreshedMs = 0;
  }

  clear() {
    for (const row of this.rows.values()) this.inSight.unobserve(row.element), row.element.remove();
    this.rows.clear();
    show(this.empty, true);
  }

  /** Takes in the objects of a picture or of `objects.list`, which has no bitmap. */
  update(records, picture = null) {
    const now = performance.now();
    const texts = picture === null || now - this.refreshedMs > TEXTS_MS || records.length !== this.rows.size;
    if (texts) this.refreshedMs = now;
    const ids = new Set(records.map(({ object }) => object));
    for (const [id, row] of this.rows) if (!ids.has(id)) this.drop(id, row);
    for (const record of records) {
      const row = this.rows.get(record.object) ?? this.add(record.object);
      if (picture) row.sample(record, picture, now);
      if (texts) row.say(record);
    }
    show(this.empty, !this.rows.size);
  }

  /** The thumbnails from a picture that does not move. */
  picture(picture) {
    for (const { object, box } of picture.tracks.objects) if (box) this.rows.get(object)?.draw(box, picture);
  }

  note(entries) {
    for (const { target, isIntersecting } of entries) {
      const row = this.rows.get(Number(target.dataset.object));
      if (row) row.visible = isIntersecting;
    }
  }

  add(id) {
    const row = new Row(id, this.actions);
    this.rows.set(id, row);
    this.list.append(row.element);
    this.inSight.observe(row.element);
    return row;
  }

  drop(id, row) {
    const next = row.element.nextElementSibling ?? row.element.previousElementSibling;
    if (row.element.contains(document.activeElement)) (next?.querySelector("button") ?? this.list).focus();
    this.inSight.unobserve(row.element);
    row.element.remove();
    this.rows.delete(id);
  }

  mark(selected, correcting) {
    for (const [id, row] of this.rows) row.mark(id === selected, id === correcting);
  }
}

class Row {
  constructor(id, actions) {
    this.id = id;
    this.actions = actions;
    this.samples = [];
    this.visible = false;
    this.picturedMs = -Infinity;
    this.chartedMs = -Infinity;
    this.thumbnail = make("canvas", { class: "thumbnail", width: 96, height: 96, "aria-hidden": "true" });
    this.chart = make("canvas", { class: "chart", role: "img", "aria-label": CHART, title: CHART });
    this.name = make("strong", { class: "name" }, String(id));
    this.guess = make("span", { class: "guess" });
    this.facts = make("span", { class: "facts" });
    this.description = make("p", { class: "description" });
    this.choose = make(
      "button",
      { class: "choose", "aria-pressed": "false", onclick: () => actions.select(id) },
      swatch(id),
      this.name,
      this.guess,
    );
    this.correct = make("button", { "aria-pressed": "false", onclick: () => actions.correct(id) }, "Correct");
    this.element = make(
      "li",
      { class: "object", "data-object": id },
      make("button", { class: "jump", title: "Zoom to it", "aria-label": `Zoom to object ${id}`, onclick: () => actions.jump(id) }, this.thumbnail),
      make("div", { class: "what" }, this.choose, this.facts, this.description),
      this.chart,
      make("div", { class: "actions" }, this.correct, this.button("Rename", () => this.rename()), this.button("Where else?", () => actions.similar(id)), this.button("Remove", () => actions.remove(id))),
    );
  }

  button(words, onclick) {
    return make("button", { onclick, "aria-label": `${words} object ${this.id}` }, words);
  }

  say(record) {
    this.label = record.label ?? "";
    this.box = record.box;
    const guess = record.guess?.label;
    text(this.name, `${this.id} ${this.label}`.trim());
    this.name.title = this.label;
    text(this.guess, guess ? `${guess}? ${Math.round(record.guess.confidence * 100)} %` : "");
    const score = record.score === null ? "" : ` · score ${record.score.toFixed(2)}`;
    const behind = record.behind ? ` · ${frames(record.behind)} behind` : "";
    text(this.facts, `${record.state}${score} · for ${frames(record.age)}${behind}`);
    const description = record.description?.text ?? record.description ?? record.meta?.description;
    text(this.description, typeof description === "string" ? description : "");
    show(this.description, typeof description === "string");
    this.element.dataset.state = record.state;
  }

  sample(record, picture, now) {
    keepMinute(this.samples, [picture.time, record.area, record.score]);
    if (!this.visible) return;
    if (now - this.chartedMs > CHART_MS) {
      this.chartedMs = now;
      drawChart(this.chart, this.samples, colourOf(this.id));
    }
    if (record.box && now - this.picturedMs > THUMBNAIL_MS) {
      this.picturedMs = now;
      this.draw(record.box, picture);
    }
  }

  draw([x1, y1, x2, y2], { bitmap, size }) {
    const scale = bitmap.width / size[0];
    const side = Math.max(x2 - x1, y2 - y1, 8) * 1.15;
    const [left, top] = [(x1 + x2 - side) / 2, (y1 + y2 - side) / 2];
    const context = this.thumbnail.getContext("2d");
    context.clearRect(0, 0, 96, 96);
    context.drawImage(bitmap, left * scale, top * scale, side * scale, side * scale, 0, 0, 96, 96);
  }

  mark(selected, correcting) {
    this.choose.setAttribute("aria-pressed", selected);
    this.correct.setAttribute("aria-pressed", correcting);
    this.element.classList.toggle("selected", selected);
  }

  rename() {
    const input = make("input", { "aria-label": `Name of object ${this.id}`, maxlength: 256 });
    input.value = this.label;
    const element = make("form", { class: "rename" }, input, make("button", {}, "Save"), make("p", { class: "refusal", role: "alert", hidden: true }));
    const form = new Form(element);
    const leave = () => {
      form.end();
      element.replaceWith(this.choose);
      this.choose.focus();
    };
    element.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (await form.send((late) => this.actions.rename(this.id, input.value.trim() || null, late))) leave();
    });
    element.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") leave();
    });
    this.choose.replaceWith(element);
    form.begin();
    input.select();
  }
}

function swatch(id) {
  const element = make("span", { class: "swatch", "aria-hidden": "true" });
  element.style.backgroundColor = colourOf(id);
  return element;
}
