// Prints what the tracker sees, from Node.js. Nothing of the tracker is needed but docs/protocol.md.
//
//   npm install --no-package-lock
//   node subscribe.mjs [STREAM] [COUNT]
//
// TRACKER_CONTROL names another control socket than tcp://127.0.0.1:5570.
import { decode, encode } from "@msgpack/msgpack";
import { Request, Subscriber } from "zeromq";

const [stream, count = "Infinity"] = process.argv.slice(2);
const control = process.env.TRACKER_CONTROL ?? "tcp://127.0.0.1:5570";

async function ask(op, args = {}) {
  const socket = new Request({ receiveTimeout: 5000, sendTimeout: 5000, linger: 0 });
  socket.connect(control);
  try {
    await socket.send(encode({ v: 1, id: "1", op, args }));
    const [payload] = await socket.receive();
    const reply = decode(payload);
    if (!reply.ok) throw new Error(`${reply.error.code}: ${reply.error.message}`);
    return reply.result;
  } finally {
    socket.close();
  }
}

function describe(object) {
  const where = object.box ? `at ${object.box.join(",")}` : "nowhere";
  return `${object.object} ${object.label ?? ""} ${object.state} ${where}`.replace("  ", " ");
}

const info = await ask("server.info");
console.error(`${info.name} ${info.version} with model ${info.model.name}, listening at ${info.publish}`);

const socket = new Subscriber({ linger: 0 });
socket.connect(info.publish);
// Topics end in "/", so that cam1 does not match cam10.
socket.subscribe(stream ? `tracks/${stream}/` : "tracks/");

const last = new Map(); // topic -> {instance, seq}
let printed = 0;
for await (const [topic, payload] of socket) {
  const tracks = decode(payload);
  const { instance, seq } = last.get(topic.toString()) ?? { instance: tracks.instance, seq: tracks.seq - 1 };
  if (instance !== tracks.instance) console.error(`${topic}: the tracker was restarted`);
  else if (tracks.seq > seq + 1) console.error(`${topic}: ${tracks.seq - seq - 1} messages lost`);
  last.set(topic.toString(), { instance: tracks.instance, seq: tracks.seq });

  console.log([`${tracks.stream} #${tracks.frame}`, ...tracks.objects.map(describe)].join("  "));
  if (++printed >= Number(count)) break;
}
socket.close();
