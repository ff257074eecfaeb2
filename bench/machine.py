"""The machine a benchmark ran on, in words, and how busy others keep it."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def describe() -> str:
    """Processor, cores, what it can multiply, versions: one sentence."""
    model, flags = platform.processor() or platform.machine(), []
    if Path("/proc/cpuinfo").is_file():
        facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        model = facts.get("model name", model)
        flags = [flag for flag in FLAGS if flag in facts.get("flags", "").split()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"Machine: {model}, {cores} cores, {', '.join(flags) or 'no vector flags known'}; {platform.system()}, "
        f"Python {platform.python_version()}, torch {version('torch')}."
    )


def idle_share(seconds: float = 0.3) -> float:
    """The share of all processor time that nobody used just now; 1.0 where the system does not tell."""
    before = _times()
    time.sleep(seconds)
    after = _times()
    spent = after[1] - before[1]
    return (after[0] - before[0]) / spent if spent else 1.0


def _times() -> tuple[int, int]:
    """(idle ticks, all ticks) since the start of the machine."""
    if not Path("/proc/stat").is_file():
        return 0, 0
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)
