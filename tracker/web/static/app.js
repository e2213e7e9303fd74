// The page: puts the parts together and carries messages and wishes between them.

import * as address from "./address.js";
import { $, show, text, toast } from "./dom.js";
import { Controls } from "./controls.js";
import { Events } from "./events.js";
import { Everything } from "./everything.js";
import { Hold } from "./hold.js";
import { Link } from "./link.js";
import { Notice } from "./notice.js";
import { Pictures } from "./pictures.js";
import { Pointing } from "./pointing.js";
import { Prompt } from "./prompt.js";
import { Similar } from "./similar.js";
import { Still } from "./still.js";
import { Streams } from "./streams.js";
import { Tiles } from "./tiles.js";
import { Tracked } from "./tracked.js";
import { Tracks } from "./tracks.js";
import { View } from "./view.js";
import { WatchList } from "./watchlist.js";
import { Zones } from "./zones.js";

const KEPT_LATENCIES = 2000;
const REFRESH_MS = 5000;

class App {
  constructor() {
    this.selected = address.streamNamed();
    this.kiosk = address.kiosk;
    this.records = new Map(); // stream -> record
    this.tracks = new Tracks();
    this.instance = null; // of the daemon: another one since it was restarted
    this.latenciesS = [];
    this.drawnFrames = 0;
    const refused = (error) => toast(error.message, true);
    const changed = () => this.changed();
    this.view = new View($("view"));
    const moved = () => (this.everything.drop(), this.prompt.follow());
    this.hold = new Hold(this.view, (stream, frame) => this.tracks.of(stream, frame), { changed, moved });
    this.link = new Link({
      connection: (open, reason) => this.connection(open, reason),
      daemon: (message) => this.daemon(message),
      status: ({ status }) => this.status(status),
      event: ({ event }) => this.event(event),
      late: (words) => toast(words, true),
      picture: (head, jpeg) => this.pictures.put(head, jpeg),
    });
    this.pictures = new Pictures((picture) => this.show(picture), (stream) => this.link.drawn(stream));
    this.prompt = new Prompt(this.link, this.view, this.hold, changed, refused);
    const begun = () => this.prompt.drop();
    this.everything = new Everything(this.link, this.view, this.hold, { changed, refused, begun });
    this.tracked = new Tracked(this);
    this.events = new Events($("events"), (event) => this.watchList.happened(event));
    this.tiles = new Tiles($("tiles"), this.link, (stream) => this.select(stream));
    this.tiles.onlook = () => this.look();
    this.streams = new Streams(this.link, () => this.records.get(this.selected));
    this.controls = new Controls(this);
    this.still = new Still(this);
    const still = () => this.controls.still(this.view.picture); // no figures of a live picture stand beside another
    this.notice = new Notice(() => this.now(), (time) => this.link.since(time), still);
    const go = (stream) => (this.records.has(stream) ? this.select(stream) : toast(`there is no stream ${stream} any more`, true));
    this.similar = new Similar(this.link, go);
    this.watchList = new WatchList(this.link, go);
    this.zones = new Zones(this.link, this.view, () => this.selected, {
      cursor: () => this.pointing.cursor,
      changed,
      begun: () => (this.everything.active ? this.everything.leave() : this.prompt.leave()),
    });
    const { view, hold, prompt, everything } = this;
    const select = (object) => this.tracked.select(object);
    this.pointing = new Pointing($("view"), { view, hold, prompt, everything, select, on: () => this.controls.on });
    new ResizeObserver(() => this.look()).observe($("view"));
    document.addEventListener("visibilitychange", () => this.look());
    setInterval(() => this.refresh(), REFRESH_MS);
    window.addEventListener("popstate", () => location.reload());
  }

  // ------------------------------------------------------------------------------------- what the server says

  connection(open, reason) {
    document.body.dataset.connected = open;
    if (open) return;
    this.banner(reason ? `The page's server hung up: ${reason}; trying again…` : "The page's server does not answer; trying again…");
    this.silence();
  }

  daemon({ info, message }) {
    document.body.dataset.daemon = info ? "answers" : "silent";
    this.link.answers = Boolean(info);
    this.banner(info ? "" : `No connection to the daemon: ${message}`);
    if (!info) return this.silence();
    this.notice.waits();
    text($("daemon"), `${info.model.name} on ${info.model.device} · version ${info.version}`);
    this.link
      .call("streams.list")
      .then(({ streams }) => this.takeStreams(streams))
      .catch((error) => toast(error.message, true));
    this.events.load(this.link).catch((error) => toast(error.message, true));
    if (this.selected) this.tracked.load();
    this.zones.load();
    this.watchList.load();
  }

  /** Nothing is known of the streams until the next status. */
  silence() {
    this.tiles.silence();
    this.notice.update();
  }

  now() {
    const answers = this.link.answers && this.link.open;
    return { record: this.records.get(this.selected), picture: this.view.picture, held: this.hold.held, answers };
  }

  banner(words) {
    text($("banner"), words);
    show($("banner"), Boolean(words));
  }

  status(status) {
    this.heard(status);
    this.takeStreams(status.streams);
  }

  takeStreams(records) {
    this.records = new Map(records.map((record) => [record.stream, record]));
    this.tracks.forgetAllBut(this.records);
    this.tiles.update(records);
    const missing = this.selected && !this.records.has(this.selected);
    const instead = this.kiosk ? "." : "; choose another one.";
    const words = records.length ? `There is no stream ${this.selected}${instead}` : "No streams yet. Add one.";
    text($("no-streams"), words);
    show($("no-streams"), !records.length || (missing && !this.view.picture));
    const gone = missing && this.view.picture?.stream === this.selected;
    if (gone && this.kiosk) this.view.clear(); // a wall screen shows no other camera instead; this one may come back
    else if (gone) this.sayRemoved();
    const another = gone && !this.kiosk;
    if ((!this.selected || another) && records.length) this.select(records[0].stream, false);
    else if (another) this.turnTo(null);
    this.tiles.mark(this.selected);
    this.streams.update();
    this.controls.update();
    this.look();
    this.fillEmpty();
    this.notice.update();
  }

  /** Every message of the daemon says which run of it sent it. */
  heard({ instance }) {
    if (this.instance !== null && instance !== this.instance) this.lose();
    this.instance = instance;
  }

  /** The daemon was restarted: it has no frame of before, and may give its number to another picture. */
  lose() {
    this.everything.lose();
    if (!this.hold.held) return;
    this.everything.leave();
    this.prompt.leave();
    toast("the daemon was restarted: the picture that was held is gone, and what was marked on it", true);
  }

  /** What was drawn or marked on a stream that was removed goes with it. */
  sayRemoved() {
    toast(`the stream ${this.selected} was removed`, true);
    address.nameNone();
  }

  event(event) {
    if (event.event === "segment_progress") this.everything.advance(event);
    if (event.event === "daemon_stopping") this.banner("The daemon is stopping; trying again when it is back…");
    this.events.add(event);
    if (event.stream === this.selected && event.object !== undefined) this.tracked.load();
  }

  /** A picture was decoded: keep its tracks, and show it where it belongs. */
  show(picture) {
    const { stream, tracks } = picture;
    if (tracks) this.heard(tracks);
    if (tracks) this.tracks.keep(stream, tracks);
    const latencyS = this.link.since(picture.time);
    this.tiles.tiles.get(stream)?.show(picture, latencyS);
    if (stream !== this.selected) {
      picture.bitmap.close();
      return;
    }
    if (tracks) this.tracked.list.update(tracks.objects, picture);
    if (tracks) this.zones.count(tracks.zones);
    if (this.hold.held) {
      picture.bitmap.close();
      return;
    }
    this.view.show(picture);
    this.notice.waits();
    this.drawnFrames += 1;
    this.latenciesS.push(this.link.since(picture.time));
    if (this.latenciesS.length > KEPT_LATENCIES) this.latenciesS.shift();
    this.controls.tick(picture, latencyS);
  }

  // --------------------------------------------------------------------------------------- what the user wants

  select(stream, byUser = true) {
    if (stream === this.selected && this.view.picture) return;
    this.turnTo(stream);
    this.notice.waits();
    if (byUser) address.name(stream);
    this.tiles.mark(stream);
    this.streams.update();
    this.look();
    this.tracked.load();
    this.fillEmpty();
  }

  /** Nothing of the stream before stays on screen; null: there is none any more. */
  turnTo(stream) {
    this.prompt.leave();
    this.everything.leave();
    this.zones.leave();
    this.selected = stream;
    this.view.clear();
    this.tracked.select(null);
    this.tracked.list.clear();
    this.controls.still(null);
    this.zones.load();
    this.changed();
  }

  /** What others have changed without an event. */
  refresh() {
    if (document.hidden || document.body.dataset.daemon !== "answers" || !this.link.open) return;
    this.zones.load();
    this.watchList.load();
  }

  /** A stream that is paused or over sends nothing; its last picture is asked for. */
  fillEmpty() {
    this.tiles.fillEmpty();
    if (!this.view.picture) this.still.show();
  }

  /** Tells the server what is on screen, and how large. */
  look() {
    if (document.hidden) return this.link.look({});
    const looks = this.kiosk ? {} : this.tiles.looks();
    if (this.selected && this.records.has(this.selected)) looks[this.selected] = this.view.sourceWidth;
    this.link.look(looks);
    this.tiles.fillEmpty();
  }

  changed() {
    this.controls?.update();
    this.tracked?.mark();
  }
}

export const app = new App();
