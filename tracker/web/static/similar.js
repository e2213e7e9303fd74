// Where else was this? Looks that are like an object's or like words, on all streams, the most alike first.

import { $, make, show, text } from "./dom.js";
import { thumbnail } from "./thumbnail.js";

export class Similar {
  /** `go(stream)` shows a stream. */
  constructor(link, go) {
    Object.assign(this, { link, go });
    this.asked = 0;
    $("similar-close").addEventListener("click", () => this.close());
    $("similar-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const words = $("similar-text").value.trim();
      if (words) this.ask(`“${words}”`, { text: words });
    });
  }

  search(stream, object) {
    return this.ask(`${stream} ${object}`, { stream, object });
  }

  async ask(what, args) {
    const asked = ++this.asked;
    show($("similar-found"), true);
    text($("similar-status"), `Looking for ${what}…`);
    $("similar-hits").replaceChildren();
    $("similar").scrollIntoView({ block: "nearest" });
    try {
      const found = await this.link.call("search.similar", { ...args, limit: 12 });
      if (asked === this.asked) this.list(found);
    } catch (error) {
      if (asked === this.asked) text($("similar-status"), error.message);
    }
  }

  list({ hits, left_out: leftOut }) {
    const more = leftOut ? ` ${leftOut} looks are of another model.` : "";
    text($("similar-status"), (hits.length ? `${hits.length} found.` : "Nothing like it is kept.") + more);
    $("similar-hits").replaceChildren(...hits.map((hit) => this.item(hit)));
  }

  item(hit) {
    const when = new Date(hit.time * 1000);
    const name = `${hit.stream} ${hit.object} ${hit.label ?? ""}`.trim();
    return make(
      "li",
      {},
      make("button", { class: "hit", onclick: () => this.go(hit.stream) }, thumbnail(hit.thumbnail), make("strong", {}, name)),
      make("span", { class: "facts" }, `${likeness(hit)} · `, make("time", { datetime: when.toISOString() }, when.toLocaleString())),
    );
  }

  close() {
    this.asked += 1;
    show($("similar-found"), false);
  }
}

/** CLIP's likeness of a text and a picture is no share of anything: only its order counts. */
function likeness({ kind, score }) {
  return kind === "clip" ? `score ${score.toFixed(2)}` : `${Math.round(score * 100)} % alike`;
}
