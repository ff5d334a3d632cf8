"""What this machine is: processor, memory, and the device that models would run on; asked without torch.

Importing torch takes seconds, so the handshake does without: an NVIDIA device counts if torch is installed
in a build for CUDA and the driver's own nvidia-smi lists one; Apple's if torch is installed on an arm64
Mac. Once torch has been imported, torch itself is asked. (Only Linux has been tried; macOS and Windows by
their documentation.)
"""

import ctypes
import platform
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from ct3d.pipeline.job import threads
from ct3d.protocol.messages import Device

MB = float(1 << 20)
NVIDIA_SMI_S = 3.0
NVIDIA_QUERY = ["--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]


def device() -> Device:
    """The device that models run on by default: a GPU that torch can use, else the processor."""
    if "torch" in sys.modules:
        return _torch_device(sys.modules["torch"]) or _processor()
    if find_spec("torch") is None:
        return _processor()
    if sys.platform == "darwin" and platform.machine() == "arm64":
        total, available = memory_mb()
        return Device("mps", processor_name(), total, available, "float16", threads())
    return (_nvidia_device() if _torch_is_built_for_cuda() else None) or _processor()


def memory_mb() -> tuple[float, float]:
    """Memory of the machine or of the container this process is confined to: (total, available), in MB."""
    readers = {"win32": _memory_windows, "darwin": _memory_macos}
    total, available = readers.get(sys.platform, _memory_linux)()
    limit, used = _container_memory_mb()
    return min(total, limit), max(0.0, min(available, limit - used))


def processor_name() -> str:
    """The processor's name as its maker prints it; its architecture where the system doesn't say."""
    if sys.platform == "darwin":
        return _said_by("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M) if cpuinfo.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _processor() -> Device:
    total, available = memory_mb()
    return Device("cpu", processor_name(), round(total), round(available), "float32", threads())


def _torch_device(torch) -> Device | None:
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        return Device("cuda", name, round(total / MB), round(free / MB), dtype, threads())
    if torch.backends.mps.is_available():
        total, available = memory_mb()
        return Device("mps", processor_name(), round(total), round(available), "float16", threads())
    return None


def _torch_is_built_for_cuda() -> bool:
    """Read from torch's own version file, which names the CUDA release or None."""
    spec = find_spec("torch")
    version = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    return bool(version and version.is_file() and re.search(r"^cuda\b.*=\s*['\"]", version.read_text(), re.M))


def _nvidia_device() -> Device | None:
    line = _said_by("nvidia-smi", *NVIDIA_QUERY).split("\n")[0]
    fields = [field.strip() for field in line.rsplit(",", 2)]
    if len(fields) != 3 or not (fields[1].isdigit() and fields[2].isdigit()):
        return None
    return Device("cuda", fields[0], float(fields[1]), float(fields[2]), "bfloat16", threads())


def _said_by(program: str, *arguments: str) -> str:
    """What a system program prints; nothing where it is absent or fails."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=NVIDIA_SMI_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _memory_linux() -> tuple[float, float]:
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M))
    return int(fields["MemTotal"]) / 1024, int(fields["MemAvailable"]) / 1024


def _memory_macos() -> tuple[float, float]:
    total = int(_said_by("sysctl", "-n", "hw.memsize") or 0) / MB
    said = _said_by("vm_stat")
    page = re.search(r"page size of (\d+)", said)
    free = re.findall(r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d+)", said, re.M)
    return total, sum(map(int, free)) * int(page[1] if page else 4096) / MB


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = [
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        *((name, ctypes.c_ulonglong) for name in ("total", "available", "a", "b", "c", "d", "e")),
    ]


def _memory_windows() -> tuple[float, float]:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return status.total / MB, status.available / MB


def _container_memory_mb() -> tuple[float, float]:
    """Limit of the control group (version 2) and what of it is used; no limit: (inf, 0)."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return float("inf"), 0.0
    return (int(limit) / MB, int(used) / MB) if limit.isdigit() else (float("inf"), 0.0)
