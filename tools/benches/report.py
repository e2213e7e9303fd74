"""What is printed and written of a measurement: a Markdown table, and JSON that says on what machine."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


def print_table(rows: Sequence[Row]) -> None:
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


def write_json(path: Path, rows: Sequence[Row]) -> None:
    about = {"machine": machine(), "command": " ".join(sys.argv), "rows": rows}
    path.write_text(json.dumps(about, indent=2) + "\n")


def machine() -> Row:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
