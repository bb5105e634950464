"""Reading `.pth` files: tensors and plain containers, nothing that could run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brainalign.datasets.resume import format_bytes
from brainalign.errors import InputError

ZIP_MAGIC = b"PK\x03\x04"
AGAIN = "download it again"


def load_tensors(path: Path) -> Any:
    """Load what `torch.save` wrote, with `weights_only=True`.

    Files in today's (zip) format are mapped: a tensor's pages are read when it is used. Older ones come into memory as
    a whole, and are refused where they do not fit.

    Raises
    ------
    InputError
        If the file is missing, damaged, holds objects other than tensors and plain containers, or does not fit into
        memory.
    """
    import torch

    try:
        with open(path, "rb") as file:
            zipped = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        size = path.stat().st_size
    except OSError as error:
        hint = "see brainalign datasets check eeg-imagenet"
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint=hint) from error
    if not zipped:
        _check_memory(path, size)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # torch raises many types on damaged files
        reason = " ".join(str(error).split())
        if "Weights only load failed" in reason and "Unsupported" in reason:
            problem = "holds objects that could run a program, expected tensors and plain containers"
            raise InputError(problem, where=path, hint="do not trust this file; get it anew") from error
        short = reason[:120] or type(error).__name__
        raise InputError(f"is not a whole .pth file ({short})", where=path, hint=AGAIN) from error


def _check_memory(path: Path, size: int) -> None:
    free = available_memory()
    if free is not None and size > free:
        problem = f"needs {format_bytes(size)} of memory (older .pth format), {format_bytes(free)} are free"
        raise InputError(problem, where=path, hint="load it on a larger machine and torch.save it anew")


def available_memory() -> int | None:
    """Bytes of memory that are free or can be freed; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
