"""The device that a model runs on: how the process sets it up, its memory, and the precision that runs there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tracker.errors import AtCapacity


def prepare(device: torch.device, dtype: torch.dtype) -> None:
    """Choose the kernels of the process for a model whose products are in `dtype`."""
    if dtype is torch.float32:
        # Good for three decimals only, and on by default for convolutions.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if device.type == "cuda":
        _take_over(device)
        # Flash attention, and the memory-efficient kernel under a mask and in float32: cuDNN's, which torch
        # puts first on some GPUs, plans anew for each shape.
        torch.backends.cuda.enable_cudnn_sdp(False)


@contextmanager
def computing(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """No gradients, and products in `dtype`. Raises AtCapacity where device memory is short."""
    bfloat16 = torch.autocast(device.type, torch.bfloat16)
    try:
        with torch.inference_mode(), bfloat16 if dtype is torch.bfloat16 else nullcontext():
            yield
    except torch.OutOfMemoryError:
        raise AtCapacity(
            "out of device memory; remove objects, or choose a smaller model or model.image_size"
        ) from None


def memory_use(device: torch.device) -> dict[str, Any]:
    """Memory of the device: held by this process, and there in all."""
    if device.type == "cuda":
        used, total = torch.cuda.memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
    else:
        page = os.sysconf("SC_PAGE_SIZE")
        used = int(Path("/proc/self/statm").read_text().split()[1]) * page
        total = os.sysconf("SC_PHYS_PAGES") * page
    return {"device": str(device), "used_bytes": used, "total_bytes": total}


def urgent_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream whose kernels go before those of streams with the usual priority, the lowest."""
    stream: torch.cuda.Stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
    return stream


def _take_over(device: torch.device) -> None:
    """Let what the calling thread does on a GPU go before what others do there, such as CLIP."""
    torch.cuda.synchronize(device)
    torch.cuda.set_stream(_stream_of_steps(device))


@cache
def _stream_of_steps(device: torch.device) -> torch.cuda.Stream:
    return urgent_stream(device)
