"""A file replayed at the highest pace while objects come and go: what grows with the frames."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faults_runs.daemon import BOX, STREAM, Served
from tracker.client.client import Client
from tracker.errors import TrackerError

LOOK_S = 5.0
SETTLED = 0.25  # of the samples at the beginning are not judged: caches and pools fill
MAX_OBJECTS = 4
MAX_SLOPE_MIB = 1.0  # for 10,000 frames


@dataclass(frozen=True, slots=True)
class Sample:
    frames: int
    rss_mib: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Figures of one run."""

    minutes: float
    frames: int
    slope_mib: float  # for 10,000 frames
    descriptors: tuple[int, int]  # least and most
    threads: tuple[int, int]

    def problems(self) -> list[str]:
        found = []
        if self.slope_mib > MAX_SLOPE_MIB:
            found.append(f"memory grows by {self.slope_mib:.2f} MiB in 10,000 frames")
        if self.descriptors[1] - self.descriptors[0] > 4:
            found.append("descriptors")
        if self.threads[1] - self.threads[0] > 2:
            found.append("threads")
        return found

    def __str__(self) -> str:
        return (
            f"{self.frames} frames in {self.minutes:.1f} min, RSS {self.slope_mib:+.2f} MiB in 10,000 frames, "
            f"descriptors {self.descriptors[0]} to {self.descriptors[1]}, "
            f"threads {self.threads[0]} to {self.threads[1]}"
        )


def replay(folder: Path, seconds: float, verbose: bool = False) -> Growth:
    """Follow a looped file as fast as it goes for `seconds`; an object is added or removed a few times a second."""
    settings = {"pace": "all", "loop": True, "buffer": {"mib": 32.0}}
    served = Served(folder, image_size=96, stream=settings, persist={"dir": str(folder / "state")})
    samples: list[Sample] = []
    began_s = time.monotonic()
    try:
        with Client(served.control, timeout_s=30) as client:
            while time.monotonic() - began_s < seconds and served.alive():
                _add_and_remove(client, LOOK_S)
                samples.append(_sample(served, client))
                if verbose:
                    print(f"{time.monotonic() - began_s:7.0f} s {samples[-1]}", flush=True)
    finally:
        served.stop()
    return _growth(samples, (time.monotonic() - began_s) / 60)


def _add_and_remove(client: Client, seconds: float) -> None:
    chance = random.Random(time.monotonic_ns())
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        objects = [record.object for record in client.objects(STREAM).objects]
        try:
            if len(objects) >= MAX_OBJECTS or (objects and chance.random() < 0.5):
                client.remove(STREAM, object=chance.choice(objects))
            else:
                client.add(STREAM, box=BOX)
        except TrackerError as error:
            if error.code not in ("unknown_object", "no_object", "frame_gone"):
                raise
        time.sleep(0.2)


def _sample(served: Served, client: Client) -> Sample:
    process = Path(f"/proc/{served.pid}")
    frames = next(record.step for record in client.streams().streams)
    descriptors, threads = len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))
    return Sample(frames, served.rss_mib(), descriptors, threads)


def _growth(samples: list[Sample], minutes: float) -> Growth:
    settled = samples[int(len(samples) * SETTLED) :]
    frames = np.array([sample.frames for sample in settled], np.float64)
    rss_mib = np.array([sample.rss_mib for sample in settled])
    slope_mib = float(np.polyfit(frames / 10_000, rss_mib, 1)[0]) if len(settled) > 1 else 0.0
    descriptors, threads = [s.descriptors for s in settled], [s.threads for s in settled]
    return Growth(
        minutes, samples[-1].frames, slope_mib, (min(descriptors), max(descriptors)), (min(threads), max(threads))
    )
