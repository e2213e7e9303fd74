"""A fleet of many boxes without daemons, in a few processes, at one NATS server: how long until all streams are
placed, until those of a tenth of the boxes, killed at once, are placed again, and what NATS takes for it.

`placed` counts from the beginning of `apply`. `NATS cpu` is of one core, over ten quiet seconds.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
from nats.aio.client import Client as Nats

from benches.report import Row
from helpers.fleets import NatsServer, nats_server
from tracker.client.nats_connection import close_nats, connect_nats
from tracker.client.nats_options import NatsOptions
from tracker.fleet import people
from tracker.fleet.buckets import Buckets
from tracker.fleet.reading import all_entries
from tracker.fleet.settings import WantedStream
from tracker.protocol.placement import WHERE, where_of

PATIENCE_S = 600.0
QUIET_S = 10.0
LOOK_S = 0.5


def rows(args: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, nats_server(Path(folder)) as nats:
        victims = max(1, args.boxes // 10)
        others = args.boxes - victims
        per_process = -(-others // args.processes)
        firsts = range(victims, args.boxes, per_process)
        processes = [_boxes(nats, 0, victims)]
        processes += [_boxes(nats, first, min(per_process, args.boxes - first)) for first in firsts]
        try:
            yield asyncio.run(_measured(nats, args, victims, processes))
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _boxes(nats: NatsServer, first: int, count: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "benches.fleet_boxes", nats.url, str(first), str(count)])


async def _measured(
    nats: NatsServer, args: argparse.Namespace, victims: int, processes: "list[subprocess.Popen[bytes]]"
) -> Row:
    connection = await connect_nats(NatsOptions([nats.url]), "bench", wait=True)
    try:
        buckets = await _until_all_are_ready(connection, args.boxes)
        wanted = {f"cam{i}": WantedStream(url="rtsp://camera/live") for i in range(args.streams)}
        began_s = time.monotonic()
        await people.apply(buckets, wanted, prune=False)
        applied_s = time.monotonic() - began_s
        placed = await _until_live(buckets, args.streams, set())
        placed_s = time.monotonic() - began_s
        counts = Counter(placed.values())
        assert nats.process is not None
        quiet = psutil.Process(nats.process.pid)
        cpu_before_s = sum(quiet.cpu_times()[:2])
        await asyncio.sleep(QUIET_S)
        cpu = (sum(quiet.cpu_times()[:2]) - cpu_before_s) / QUIET_S
        gone = {f"box{i}" for i in range(victims)}
        processes[0].kill()
        began_s = time.monotonic()
        again = await _until_live(buckets, args.streams, gone)
        again_s = time.monotonic() - began_s
        moved = [stream for stream, box in placed.items() if box not in gone and again[stream] != box]
        return {
            "boxes": args.boxes,
            "streams": args.streams,
            "applied s": round(applied_s, 1),
            "placed s": round(placed_s, 1),
            "streams of a box": f"{min(counts.values())} to {max(counts.values())}",
            "boxes killed": victims,
            "their streams": sum(box in gone for box in placed.values()),
            "placed again s": round(again_s, 1),
            "moved needlessly": len(moved),
            "NATS MiB": round(quiet.memory_info().rss / 2**20),
            "NATS cpu %": round(100 * cpu),
        }
    finally:
        await close_nats(connection)


async def _until_all_are_ready(connection: Nats, count: int) -> Buckets:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            buckets = await Buckets.open(connection)
            if len([box for box in await people.boxes(buckets) if box.message is None]) >= count:
                return buckets
        except Exception:  # noqa: BLE001, S110 - the first box makes them
            pass
        await asyncio.sleep(1)
    raise TimeoutError("not all boxes came")


async def _until_live(buckets: Buckets, count: int, gone: set[str]) -> dict[str, str]:
    """Streams that are live on other boxes than those `gone`, with their boxes, once there are `count`."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        found = map(where_of, (await all_entries(buckets.js, WHERE)).values())
        live = {one.stream: one.box for one in found if one and one.state == "live" and one.box not in gone}
        if len(live) >= count:
            return live
        await asyncio.sleep(LOOK_S)
    raise TimeoutError(f"{len(live)} of {count} streams are live")
