// The WebSocket to the page's server: requests as promises, pictures and messages as they come, reconnects.

const RETRY_MS = [200, 500, 1000, 2000];
const PING_MS = 5000;
const FIRST_PINGS_MS = [0, 300, 700, 1200, 2000]; // while a page loads, its answers are late

export class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class Link {
  /** `handlers`: one function per kind of message, `picture(head, jpeg)`, and `connection(open, reason)`. */
  constructor(handlers) {
    this.handlers = handlers;
    this.clockOffsetS = 0; // server's clock minus ours
    this.calls = new Map();
    this.nextId = 1;
    this.failures = 0;
    this.looks = {};
    this.answers = false; // the daemon, as the server says
    this.bestTripMs = Infinity;
    this.connect();
    setInterval(() => this.ping(), PING_MS);
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.opened();
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.read(JSON.parse(data)) : this.readPicture(data));
    socket.onclose = ({ reason }) => this.closed(reason);
    this.socket = socket;
  }

  opened() {
    this.bestTripMs = Infinity;
    this.handlers.connection(true);
    this.send({ kind: "look", streams: this.looks });
    for (const waitMs of FIRST_PINGS_MS) setTimeout(() => this.ping(), waitMs);
  }

  /** `reason`: the server's, where it hung up for one. */
  closed(reason) {
    for (const { reject } of this.calls.values()) reject(new Refusal("unavailable", "the connection was lost"));
    this.calls.clear();
    this.answers = false;
    this.handlers.connection(false, reason);
    this.askForToken();
    const waitMs = RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)];
    setTimeout(() => this.connect(), waitMs);
  }

  /** A server that asks for a token which this browser does not have, or not any more, shows its form for it. */
  async askForToken() {
    const answer = await fetch("/", { method: "HEAD" }).catch(() => null);
    if (answer?.status === 401) location.reload();
  }

  get open() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  send(message) {
    if (this.open) this.socket.send(JSON.stringify(message));
  }

  /** An operation of the daemon; its result, or a Refusal as the daemon words it. `late(words)` is told where the
   * answer is not there yet, and may still come. */
  call(op, args = {}, late = this.handlers.late) {
    if (!this.open) return Promise.reject(new Refusal("unavailable", "the page's server is not connected"));
    if (!this.answers) return Promise.reject(new Refusal("unavailable", "the daemon does not answer"));
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject, late });
      this.send({ kind: "call", id, op, args });
    });
  }

  /** Names the streams that are on screen, each with the width in device pixels. */
  look(streams) {
    if (JSON.stringify(streams) === JSON.stringify(this.looks)) return;
    this.looks = streams;
    this.send({ kind: "look", streams });
  }

  drawn(stream) {
    this.send({ kind: "drawn", stream });
  }

  ping() {
    const known = Number.isFinite(this.bestTripMs) ? { round_trip_s: this.bestTripMs / 1000 } : {};
    this.send({ kind: "ping", sent: performance.now(), ...known });
  }

  read(message) {
    this.failures = 0; // a server that only hangs up again is asked ever more rarely
    const { kind } = message;
    if (kind === "answer") this.settle(message.id)?.resolve(message.result);
    else if (kind === "refused") this.settle(message.id)?.reject(new Refusal(message.code, message.message));
    else if (kind === "late") this.calls.get(message.id)?.late(message.message);
    else if (kind === "pong") this.compareClocks(message);
    else this.handlers[kind]?.(message);
  }

  settle(id) {
    const call = this.calls.get(id);
    this.calls.delete(id);
    return call;
  }

  compareClocks({ sent, time }) {
    const now = performance.now();
    const tripMs = now - sent;
    if (tripMs > this.bestTripMs) return;
    this.bestTripMs = tripMs;
    this.clockOffsetS = time - (performance.timeOrigin + now - tripMs / 2) / 1000;
  }

  /** Seconds since a time of the server's clock. */
  since(time) {
    return (performance.timeOrigin + performance.now()) / 1000 + this.clockOffsetS - time;
  }

  readPicture(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    this.handlers.picture(head, new Uint8Array(buffer, 4 + length));
  }
}
