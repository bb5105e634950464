"""Times alternatives against each other in one process and writes what it found, as ratios.

Alternatives run in turns (A B A B ...), so that whatever else the machine does hits all of them alike; each round
gives one ratio, and the median over rounds is reported with its quartiles. Times are wall clock; the load average says
how many processes wanted the cores, this one included.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores, threads and versions; no names of hosts or folders."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def compare(
    alternatives: Mapping[str, Callable[[], object]], *, baseline: str, rounds: int = 9, warmup: int = 1
) -> dict[str, Any]:
    """Time each alternative once a round, in turns.

    Parameters
    ----------
    alternatives : mapping of str to callable
    baseline : str
        The alternative that the others are divided into.
    rounds, warmup : int
        Rounds counted, and rounds thrown away before.

    Returns
    -------
    dict
        For each alternative `median_s` and `fastest_s`, for each but the baseline `times_faster` with `low` and `high`
        quartile over rounds, and `fastest_times_faster` from the fastest round of each.
    """
    if baseline not in alternatives:
        raise KeyError(f"baseline '{baseline}' is none of {sorted(alternatives)}")
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for round_ in range(warmup + rounds):
        for name, run in alternatives.items():
            start = time.perf_counter()
            run()
            if round_ >= warmup:
                seconds[name].append(time.perf_counter() - start)
    found = {name: _summary(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        if name != baseline:
            found[name] |= _ratios(seconds[baseline], values)
    return found


def _summary(seconds: list[float]) -> dict[str, Any]:
    return {"median_s": _short(statistics.median(seconds)), "fastest_s": _short(min(seconds)), "rounds": len(seconds)}


def _ratios(baseline: list[float], values: list[float]) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(baseline, values, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return {
        "times_faster": _short(middle),
        "low": _short(low),
        "high": _short(high),
        "fastest_times_faster": _short(min(baseline) / min(values)),
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def matmul_rate(size: int = 1024, rounds: int = 15) -> float:
    """Multiply-adds counted as two, per second, of a float32 product of square matrices: the fastest of some rounds."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    fastest = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * size**3 / fastest


def write(name: str, found: Mapping[str, Any]) -> Path:
    """Write a result with the machine it was found on to `results/<name>.json`, and print it."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    text = json.dumps({"benchmark": name, "machine": machine(), **found}, indent=2) + "\n"
    scratch = path.with_suffix(".part")
    scratch.write_text(text)
    scratch.replace(path)
    print(text, end="")
    return path
