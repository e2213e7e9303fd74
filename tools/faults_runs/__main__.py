"""tools/faults: one line a case, exit status 1 where a bound is not held."""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from faults_runs import device_rows, kill_rows, restart_row, rows
from faults_runs.daemon import Observer, Served, steps
from faults_runs.peers import PEERS, Peer, PeerProcess
from faults_runs.replay import replay

ROWS = rows.ROWS | device_rows.ROWS | kill_rows.ROWS | restart_row.ROWS
MORE_MIB, P99_MS, STOP_S = 64.0, 50.0, 2.0
MORE_THAN_IDLE = 2.0  # a request waits for one step of the model and one other request, not for one step alone
IDLE_S = 5.0
STOP_AMID_S = 0.5  # the daemon is stopped so long after an attack began
MEMORY_MIB = 1536  # limits.memory_mib of the daemon for messages that never end


@dataclass(frozen=True, slots=True)
class Figures:
    case: str
    alive: bool
    more_mib: float
    peak_mib: float
    p99_ms: float
    idle_p99_ms: float  # of the same daemon just before
    failed: int
    frames_per_s: float
    idle_frames_per_s: float
    stop_s: float
    attacked: bool

    def problems(self, times: bool) -> list[str]:
        """What was not held; `times`: also what depends on the machine's speed."""
        bound_mib = MEMORY_MIB + MORE_MIB - self.peak_mib if "endless" in self.case else MORE_MIB - self.more_mib
        found = [] if self.alive else ["it ended"]
        found += [] if self.attacked else ["the peer failed"]
        found += ["memory"] if bound_mib < 0 else []
        found += [f"{self.failed} unanswered"] if self.failed else []
        if not times:
            return found
        bound_ms = max(P99_MS, MORE_THAN_IDLE * self.idle_p99_ms)
        found += ["p99"] if not self.p99_ms <= bound_ms else []
        found += ["stop"] if self.stop_s > STOP_S else []
        found += ["half the frames"] if self.frames_per_s < self.idle_frames_per_s / 2 else []
        return found


def run(case: str, peer: Peer, seconds: float, folder: Path) -> Figures:
    served = Served(folder, memory_mib=MEMORY_MIB if "endless" in case else None)
    attacked: list[bool] = []
    try:
        with Observer(served) as idle:
            idle_frames_per_s = _frames_per_s(served, lambda: time.sleep(IDLE_S))
        before_mib = served.rss_mib()
        with Observer(served) as observer:
            frames_per_s = _frames_per_s(served, lambda: attacked.append(_for_at_least(peer, served, seconds)))
        alive = served.alive()
        attacker = PeerProcess(peer, served.target, 3.0)
        time.sleep(STOP_AMID_S)
    finally:
        stop_s = served.stop()
    attacker.join(20)
    peak_mib = observer.peak_mib
    return Figures(
        case, alive, peak_mib - before_mib, peak_mib, observer.p99_ms, idle.p99_ms, observer.failed,
        frames_per_s, idle_frames_per_s, stop_s, attacked[0],
    )  # fmt: skip


def _for_at_least(peer: Peer, served: Served, seconds: float) -> bool:
    """Whether the peer could do what it is there for."""
    ends_s = time.monotonic() + seconds
    has_attacked = PeerProcess(peer, served.target, seconds).join(seconds + 30)
    time.sleep(max(0.0, ends_s - time.monotonic()))
    return has_attacked


def _frames_per_s(served: Served, work) -> float:  # type: ignore[no-untyped-def]
    first, started_s = steps(served.control), time.monotonic()
    work()
    return (steps(served.control) - first) / (time.monotonic() - started_s)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/faults", description=__doc__)
    known = [*PEERS, *ROWS, "file_replay"]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(known)}; all without any")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each case (8)")
    parser.add_argument("--no-times", action="store_true", help="do not judge what depends on the machine's speed")
    parser.add_argument("--short", action="store_true", help="less of what takes minutes; no file_replay")
    parser.add_argument("--minutes", type=float, default=60.0, help="of file_replay (60)")
    options = parser.parse_args()
    if unknown := [case for case in options.cases if case not in known]:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(known)}")
    cases = options.cases or known
    with tempfile.TemporaryDirectory() as folder:
        bad = _hostile([case for case in cases if case in PEERS], options, Path(folder))
        bad += _others([case for case in cases if case in ROWS], options.short)
        if "file_replay" in cases and not options.short:
            growth = replay(Path(folder), options.minutes * 60)
            bad += _say("file_replay", str(growth), growth.problems())
    return 1 if bad else 0


def _others(cases: list[str], short: bool) -> int:
    """The number of rows that were not held."""
    bad = 0
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            figures, problems = ROWS[case](Path(folder), short)
        bad += _say(case, figures, problems)
    return bad


def _say(case: str, figures: str, problems: list[str]) -> int:
    print(f"{case:28} {figures}  {', '.join(problems) or 'held'}", flush=True)
    return bool(problems)


def _hostile(cases: list[str], options: argparse.Namespace, folder: Path) -> int:
    """The number of cases that were not held."""
    bad = 0
    head = f"{'case':28} {'alive':6} {'RSS +':>8} {'peak':>6} {'p99 ms, idle':>14} {'lost':>4}"
    print(f"{head} {'frames/s':>13} {'stop s':>6}")
    for case in cases:
        figures = run(case, PEERS[case], options.seconds, folder)
        problems = figures.problems(times=not options.no_times)
        bad += bool(problems)
        print(
            f"{case:28} {'yes' if figures.alive else 'NO':6} {figures.more_mib:8.1f} {figures.peak_mib:6.0f} "
            f"{figures.p99_ms:7.1f} {figures.idle_p99_ms:6.1f} {figures.failed:4d} "
            f"{figures.frames_per_s:5.1f} of {figures.idle_frames_per_s:4.1f} "
            f"{figures.stop_s:6.2f}  {', '.join(problems) or 'held'}",
            flush=True,
        )
    return bad


if __name__ == "__main__":
    sys.exit(main())
