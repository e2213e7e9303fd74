"""The training log as a picture: IoU of the first and the last answer of each lesson, by step."""

import json
from itertools import groupby
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, MARGIN = 900, 320, 40
LINES = {"iou_first": "#1f77b4", "iou_last": "#d62728"}
Row = dict[str, float | str]


def curve(log: Path) -> str:
    """An SVG of the log; repeated steps (after a resume) count once, the last time."""
    rows = _rows(log)
    total = max(float(row["at"]) for row in rows)
    parts = [_frame()]
    for stage, group in groupby(rows, key=lambda row: row["stage"]):
        members = list(group)
        left = _x(float(members[0]["at"]), total)
        parts.append(f'<line x1="{left:.0f}" x2="{left:.0f}" y1="{MARGIN}" y2="{HEIGHT - MARGIN}" stroke="#ccc"/>')
        parts.append(f'<text x="{left + 4:.0f}" y="{MARGIN - 8}">{stage}</text>')
        parts += [_line(members, key, colour, total) for key, colour in LINES.items()]
    legend = [
        f'<text x="{60 + 220 * i}" y="{HEIGHT - 8}" fill="{c}">{k}</text>' for i, (k, c) in enumerate(LINES.items())
    ]
    return "\n".join([*parts, *legend, "</svg>", ""])


def _rows(log: Path) -> list[Row]:
    """One row per stage and step in order, with `at`: steps since the beginning of all."""
    rows = {(row["stage"], row["step"]): row for row in map(json.loads, log.read_text().splitlines())}
    ordered: list[Row] = []
    before = 0.0
    stages = list(dict.fromkeys(stage for stage, _ in rows))
    for stage in stages:
        members = sorted((row for (name, _), row in rows.items() if name == stage), key=lambda row: row["step"])
        ordered += [row | {"at": before + row["step"]} for row in members]
        before += members[-1]["step"]
    return ordered


def _line(rows: list[Row], key: str, colour: str, total: float) -> str:
    """A polyline of the running mean of up to four rows: single ones are noisy."""
    span = min(4, len(rows))
    values = np.convolve([float(row[key]) for row in rows], np.ones(span) / span, mode="valid")
    at = [float(row["at"]) for row in rows][len(rows) - len(values) :]
    points = " ".join(f"{_x(a, total):.1f},{_y(v):.1f}" for a, v in zip(at, values, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _frame() -> str:
    ticks = "".join(
        f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{_y(v):.0f}" y2="{_y(v):.0f}" stroke="#eee"/>'
        f'<text x="8" y="{_y(v) + 4:.0f}">{v}</text>'
        for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    )
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
    return f'{head}\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{ticks}'


def _x(at: float, total: float) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN) * at / total


def _y(value: float) -> float:
    return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * value
