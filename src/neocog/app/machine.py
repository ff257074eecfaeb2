"""What this machine is good at: device, number format and memory layout, measured once and shown in every run."""

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from neocog.core.config import TrainConfig
from neocog.core.errors import UsageError
from neocog.core.words import counted


@dataclass(frozen=True)
class Machine:
    device: torch.device
    bf16: bool
    channels_last: bool

    def describe(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        threads = f", {counted(torch.get_num_threads(), 'thread')}" if self.device.type == "cpu" else ""
        return f"{device_name(self.device)}{threads}, {'bf16' if self.bf16 else 'fp32'}, {layout}"

    def place(self, network: nn.Module) -> None:
        """Moves a network here, its weights in the chosen layout, and makes ready for computing."""
        if self.device.type == "cpu":
            keep_freed_memory()
        network.to(self.device)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def choose_machine(config: TrainConfig) -> Machine:
    """`auto` takes CUDA, then MPS, then the CPU. bf16 where the hardware multiplies it (a CPU without
    AVX512-BF16 or AMX would emulate it, slower than float32); float16 never: on a CPU it is slower still."""
    device = choose_device(config.device)
    bf16 = has_bf16(device) if config.precision == "auto" else config.precision == "bf16"
    channels_last = device.type != "mps" if config.layout == "auto" else config.layout == "channels_last"
    return Machine(device, bf16, channels_last)


def choose_device(name: str) -> torch.device:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if (name.startswith("cuda") and not cuda) or (name == "mps" and not mps):
        raise UsageError(f"device {name!r} is not available here", "use --device auto or cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} does not exist: there are {torch.cuda.device_count()}", "use --device cuda:0"
        )
    return device


def has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and sys.platform == "linux":
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu" and sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"cpu ({line.partition(':')[2].strip()}, {torch.backends.cpu.get_cpu_capability()})"
    return f"{device.type} ({platform.processor() or platform.machine()})"


def keep_freed_memory() -> None:
    """glibc gives every large block back to the kernel and faults it in again at the next step. Raising its
    trim and mmap thresholds keeps the blocks: up to 1.25 times the training speed. What was freed until now, by
    reading the pictures, is given back first. Elsewhere it does nothing."""
    if sys.platform == "linux" and "glibc" in platform.libc_ver()[0]:
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc_trim(0)
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_trim_threshold, 2**30)
        libc.mallopt(m_mmap_threshold, 2**30)


def available_memory(device: torch.device) -> tuple[int, str]:
    """(bytes that are free for tensors now, whose they are)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0], f"free on {device_name(device)}"
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory(), "free for the GPU"
    free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    if sys.platform == "linux":
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = [int(lines["MemAvailable"].split()[0]) * 1024]
        # A container may have less than its host.
        limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
        if limit.is_file() and limit.read_text().strip() != "max":
            free.append(max(int(limit.read_text()) - int(used.read_text()), 0))
    return min(free), "free on this machine"
