"""What this machine has, as far as it can be told at once: no torch is imported, nothing is written or downloaded."""

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from neocog import __version__
from neocog.core.folders import cache_folder

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of x86 processors: what convolutions gain from
BF16 = {"avx512_bf16", "amx_bf16"}
NCCL_SHARED_MEMORY = 2**30  # bytes: what NCCL's manual asks of containers
GPU_SECONDS = 5.0
CGROUP = Path("/sys/fs/cgroup")


def examine(folder: Path) -> dict[str, Any]:
    """Everything that `neocog doctor` shows; sizes in bytes, None where this machine does not say.

    `folder`: the working folder, in which runs/ would be made. "problems" says in words what will fail or be slow.
    """
    required, extras = requirements()
    facts: dict[str, Any] = {
        "neocog": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: version(name) for name in required},
        "extras": {extra: {name: version(name) for name in names} for extra, names in extras.items()},
        "processor": processor(),
        "memory": memory(),
        "disk": {"runs": disk(folder / "runs"), "cache": disk(cache_folder())},
        "shared_memory": shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
        "gpus": gpus(),
    }
    return facts | {"problems": problems(facts)}


def requirements() -> tuple[list[str], dict[str, list[str]]]:
    """(packages that neocog needs, packages of each optional extra), as the installed neocog declares them."""
    required: list[str] = []
    extras: dict[str, list[str]] = {}
    try:
        declared = metadata.requires("neocog") or []
    except metadata.PackageNotFoundError:  # run from its source, without having been installed
        declared = []
    for line in declared:
        name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        (extras.setdefault(extra[1], []) if extra else required).append(name)
    return required, extras


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> dict[str, Any]:
    """`cores`: in the machine. `usable`: by this process, a container's share of time included."""
    cores = os.cpu_count() or 1
    usable: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    quota = _words(CGROUP / "cpu.max")
    if len(quota) == 2 and quota[0] != "max":
        usable = min(usable, int(quota[0]) / int(quota[1]))
    info = _text(Path("/proc/cpuinfo"))
    known = set(info.partition("flags")[2].partition("\n")[0].split())
    name = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return {
        "name": name[1] if name else platform.processor() or platform.machine(),
        "cores": cores,
        "usable": usable,
        "flags": [flag for flag in FLAGS if flag in known],
        "bf16": bool(BF16 & known),
    }


def memory() -> dict[str, int | None]:
    """`total` and `free`: the machine's, or the container's where that has less."""
    if sys.platform != "linux":
        known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
        return {"total": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else None, "free": None}
    lines = dict(line.split(":", 1) for line in _text(Path("/proc/meminfo")).splitlines())
    total, free = (int(lines[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    # Version 2 of control groups, then version 1.
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        allowed, taken = _words(CGROUP / limit), _words(CGROUP / used)
        if allowed and taken and allowed[0] != "max":
            total = min(total, int(allowed[0]))
            free = min(free, max(int(allowed[0]) - int(taken[0]), 0))
    return {"total": total, "free": free}


def disk(folder: Path) -> dict[str, Any]:
    """Of the nearest folder that exists, in which `folder` would be made."""
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    return {"folder": str(folder), "free": shutil.disk_usage(place).free, "writable": os.access(place, os.W_OK)}


def gpus() -> list[dict[str, Any]]:
    """What NVIDIA's own tool lists, `memory` in bytes. On a Mac with Apple's chips: its GPU."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return [{"name": "Apple GPU (mps)", "memory": None, "driver": None}]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=GPU_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return [{"name": "unknown: nvidia-smi does not answer", "memory": None, "driver": None}]
    rows = [[word.strip() for word in line.rsplit(",", 2)] for line in answer.splitlines() if line.count(",") >= 2]
    return [
        {"name": name, "memory": int(mebibytes) * 2**20 if mebibytes.isdigit() else None, "driver": driver}
        for name, mebibytes, driver in rows
    ]


def problems(facts: dict[str, Any]) -> list[str]:
    """What a person should know, and the next thing to do."""
    found = [
        f"{name} is missing; install it with `pip install {name}`"
        for name, installed in facts["packages"].items()
        if installed is None
    ]
    for use, place in facts["disk"].items():
        if not place["writable"]:
            instead = "run neocog elsewhere or give --out" if use == "runs" else "set XDG_CACHE_HOME"
            found.append(f"{place['folder']} cannot be written to; {instead}")
    if facts["gpus"] and "+cpu" in (facts["packages"].get("torch") or ""):
        found.append("torch is a build without GPUs, so the GPU here stays idle; install torch's CUDA build")
    if len(facts["gpus"]) > 1 and (facts["shared_memory"] or NCCL_SHARED_MEMORY) < NCCL_SHARED_MEMORY:
        found.append("/dev/shm is too small for several GPUs to talk through; start the container with --shm-size=1g")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _words(path: Path) -> list[str]:
    return _text(path).split()
