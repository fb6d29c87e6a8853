"""What a machine says of itself while it works: memory and power, as far as it can tell."""

from __future__ import annotations

import resource
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

_MONITORS = Path("/sys/class/hwmon")
"""Where Linux shows sensors; those of Jetson boards measure volts and amperes of power rails."""

_JETSON_MONITOR = "ina3221"
_WHOLE_BOARD = ("VDD_IN", "VIN_SYS_5V0")
"""Names of the rail that feeds all others on Orin Nano, NX and AGX boards."""

_INTERVAL = 0.25
"""Seconds between two readings."""


def peak_memory_mb() -> float:
    """Return the most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # from kibibytes


def nvidia_smi(*queries: str, of: str = "gpu") -> list[list[str]]:
    """Ask NVIDIA's own tool; one row for each GPU or process, nothing where it does not run."""
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-{of}={','.join(queries)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]


def _nvidia(query: str) -> float | None:
    """Read a number of the first GPU."""
    rows = nvidia_smi(query)
    try:
        return float(rows[0][0]) if rows else None
    except ValueError:  # "[N/A]" on boards that do not measure it
        return None


def board_power_watts(monitors: Path = _MONITORS) -> float | None:
    """Return the power that a Jetson board draws, in watts; None where there is no such sensor."""
    for folder in sorted(monitors.glob("hwmon*")):
        if _read(folder / "name") != _JETSON_MONITOR:
            continue
        for label in sorted(folder.glob("in*_label")):
            if _read(label) in _WHOLE_BOARD:
                channel = label.name.removeprefix("in").removesuffix("_label")
                millivolts = _read(folder / f"in{channel}_input")
                milliamperes = _read(folder / f"curr{channel}_input")
                if millivolts.isdigit() and milliamperes.isdigit():
                    return int(millivolts) * int(milliamperes) / 1e6
    return None


def _read(path: Path) -> str:
    """Read a file of the kernel's; an empty text where that is not possible."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


GAUGES: Mapping[str, Callable[[], float | None]] = {
    "gpu_memory_mb": lambda: _nvidia("memory.used"),
    "gpu_power_watts": lambda: _nvidia("power.draw"),
    "board_power_watts": board_power_watts,
}
"""What is read while graphs run; None where the machine does not say."""


class Watch:
    """Reads gauges in the background, from `with` to its end."""

    def __init__(self, gauges: Mapping[str, Callable[[], float | None]] = GAUGES):
        # What does not answer once is not asked again
        self._gauges = {name: read for name, read in gauges.items() if read() is not None}
        self._readings: dict[str, list[float]] = {name: [] for name in self._gauges}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ends.set()
        self._thread.join()

    def peaks(self) -> dict[str, float]:
        """Return the highest reading of each gauge that gave one."""
        return {name: max(values) for name, values in self._readings.items() if values}

    def means(self) -> dict[str, float]:
        """Return the mean reading of each gauge that gave one."""
        return {name: sum(v) / len(v) for name, v in self._readings.items() if v}

    def _watch(self) -> None:
        while True:
            for name, read in self._gauges.items():
                value = read()
                if value is not None:
                    self._readings[name].append(value)
            if self._ends.wait(_INTERVAL):
                return
