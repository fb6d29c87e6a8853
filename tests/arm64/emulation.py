"""Run the wheel's demo on an emulated ARM64 CPU: its labels must equal this machine's.

    make arm64

It installs nothing: an ARM64 Python of Debian, ARM64 wheels and QEMU are unpacked under
`build/arm64`, and used again the next time. It wants apt-get with Debian's package lists, and pip.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "arm64"
CONSTRAINTS = ROOT / "docker" / "constraints.txt"

CPU = "neoverse-n1"
"""The emulated CPU: ARMv8.2 with fp16 and dot products, as Jetson Orin's Cortex-A78AE."""

PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
"""What Debian 12's C library (2.36) runs, as pip names it."""

CPU_FILES = {
    "sys/devices/system/cpu/possible": "0\n",
    "sys/devices/system/cpu/present": "0\n",
    "sys/devices/system/cpu/cpu0/online": "1\n",
    "proc/cpuinfo": (
        "processor\t: 0\n"
        "Features\t: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm"
        " lrcpc dcpop asimddp\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\n"
    ),
}
"""What programs read about the CPU. QEMU shows them the host's own files where the prefix has none,
and onnxruntime does not survive an x86 CPU's."""


class EmulationError(Exception):
    """The demo cannot run on an emulated CPU, or gives other labels there."""


@dataclass(frozen=True)
class Demo:
    """What `samrefine demo` made."""

    labels: dict[str, bytes]
    """PNG files of the labels, by name."""
    figures: dict[str, Any]
    """`overall` of its JSON: masks, mIoU."""
    onnxruntime: str
    """Version."""
    seconds: float
    """CPU time of the command: it runs beside other work, at a low priority."""


def main() -> None:
    """Prepare both sides, run them, compare them. Exits 1 with one line on errors."""
    try:
        wheel = build_wheel()
        native = run_demo(native_python(wheel), {}, CACHE / "demo-native")
        command, environment = emulated_python(wheel)
        emulated = run_demo(command, environment, CACHE / "demo-arm64")
        sys.stdout.write(compare(native, emulated) + "\n")
    except EmulationError as error:
        sys.exit(f"make arm64: {error}")


def build_wheel() -> Path:
    """Build the wheel of this tree. Returns its path."""
    folder = fresh(CACHE / "wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    call([*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", f"{ROOT}"], "no wheel is built")
    return next(folder.glob("*.whl"))


def native_python(wheel: Path) -> list[str]:
    """Install the wheel for this machine. Returns the command that starts Python."""
    folder = CACHE / "native"
    python = folder / "bin" / "python"
    if not python.exists():
        call([sys.executable, "-m", "venv", folder], "no virtual environment can be made")
    # Its version stays the same while the code changes
    install = ["install", "--force-reinstall", f"--constraint={CONSTRAINTS}", f"{wheel}[cpu]"]
    call([python, "-m", "pip", "--quiet", *install], "the wheel cannot be installed")
    return [str(python)]


def emulated_python(wheel: Path) -> tuple[list[str], dict[str, str]]:
    """Unpack what the emulated side needs.

    Returns:
        The command that starts its Python, and its environment variables.
    """
    qemu, prefix = unpack_qemu(), unpack_python()
    python = find_one(prefix / "usr" / "bin", "python3.[0-9]*")
    packages = unpack_wheels(wheel, python.name.removeprefix("python"))
    command = [str(qemu), "-cpu", CPU, "-L", str(prefix), str(python)]
    return command, {"PYTHONPATH": str(packages)}


def unpack_qemu() -> Path:
    """Return QEMU's user-mode emulator; Debian's package is unpacked where it is not installed."""
    name = "qemu-aarch64-static"
    if installed := shutil.which(name):
        return Path(installed)
    architecture = call(["dpkg", "--print-architecture"], "this is no Debian").strip()
    folder = unpack(CACHE / "qemu", architecture, "qemu-user-static")
    return find_one(folder / "usr" / "bin", name)


def unpack_python() -> Path:
    """Return the prefix with Debian's Python for ARM64 and the files that describe its CPU."""
    prefix = unpack(CACHE / "prefix", "arm64", "python3", "libstdc++6")
    for name, text in CPU_FILES.items():
        path = prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return prefix


def unpack_wheels(wheel: Path, version: str) -> Path:
    """Unpack the wheel and all that it needs, for ARM64, into a folder. Returns the folder.

    Args:
        wheel: of this project.
        version: of the emulated Python, "3.11".
    """
    wheels = fresh(CACHE / "wheels")
    platforms = [f"--platform={name}" for name in PLATFORMS]
    target = [*platforms, f"--python-version={version}", "--only-binary=:all:"]
    download = ["download", *target, f"--constraint={CONSTRAINTS}", f"--dest={wheels}"]
    pip = [sys.executable, "-m", "pip", "--quiet"]
    call([*pip, *download, f"{wheel}[cpu]"], "there are no wheels for ARM64")
    folder = fresh(CACHE / "packages")
    for path in wheels.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    return folder


def unpack(folder: Path, architecture: str, *packages: str) -> Path:
    """Unpack Debian packages and what they depend on into a folder, once. Returns the folder.

    apt gets a state directory of its own, in which nothing is installed: this machine's packages
    are neither asked nor touched.
    """
    if folder.exists():
        return folder
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise EmulationError(f"{program} is missing: this needs Debian, or a system made of it")
    state = fresh(CACHE / "apt")
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    apt = [
        "apt-get", "--quiet=2", "--option=APT::Sandbox::User=root",
        f"--option=APT::Architecture={architecture}", f"--option=APT::Architectures={architecture}",
        f"--option=Dir::State={state}", f"--option=Dir::State::status={state}/status",
        f"--option=Dir::Cache={state}",
    ]  # fmt: skip
    call([*apt, "update"], f"apt-get finds no package lists for {architecture}")
    install = [*apt, "install", "--yes", "--download-only", "--no-install-recommends", *packages]
    call(install, f"apt-get finds no {' '.join(packages)} for {architecture}")
    staging = fresh(folder.with_suffix(".partial"))
    for path in sorted((state / "archives").glob("*.deb")):
        call(["dpkg", "--extract", path, staging], f"{path.name} cannot be unpacked")
    # A folder of this name is complete, or does not exist
    staging.rename(folder)
    shutil.rmtree(state)
    return folder


def run_demo(python: Sequence[str], environment: dict[str, str], out: Path) -> Demo:
    """Run `samrefine demo` with a Python, at a low priority.

    Args:
        python: the command that starts it.
        environment: variables on top of this process's, but for PYTHONPATH, which is not inherited.
        out: output folder.
    """
    fresh(out)
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Elsewhere than in the repository, whose packages Python would find before the wheel's
    where: dict[str, Any] = {"cwd": out, "env": {**inherited, **environment}}
    version = "import onnxruntime; print(onnxruntime.__version__)"
    onnxruntime = call([*python, "-c", version], "onnxruntime does not start", **where).strip()
    before = os.times()
    figures = out / "figures.json"
    demo = ["-m", "samrefine_rt", "demo", f"--out={out}", f"--json={figures}", "--quiet"]
    call(["nice", *python, *demo], "the demo failed", **where)
    after = os.times()
    user, system = after.children_user, after.children_system
    return Demo(
        {path.name: path.read_bytes() for path in sorted((out / "voc").glob("*.png"))},
        json.loads(figures.read_text())["overall"],
        onnxruntime,
        user + system - before.children_user - before.children_system,
    )


def compare(native: Demo, emulated: Demo) -> str:
    """Compare two runs of the demo. Returns what to say about them.

    Raises:
        EmulationError: a label is missing or has other bytes, or there is none.
    """
    names = sorted(native.labels.keys() | emulated.labels.keys())
    differing = [name for name in names if native.labels.get(name) != emulated.labels.get(name)]
    if differing or not names:
        raise EmulationError(
            f"{len(differing)} of {len(names)} labels differ between this CPU and ARM64: "
            f"{', '.join(differing)}"
        )
    return "\n".join(
        [
            f"{len(names)} of {len(names)} label files are equal, byte by byte",
            *(
                f"{title:<12} onnxruntime {demo.onnxruntime}  {demo.figures['masks']} masks  "
                f"{100 * demo.figures['refined_miou']:.1f} mIoU  {demo.seconds:.0f} s of CPU time"
                for title, demo in (("this CPU", native), (CPU, emulated))
            ),
        ]
    )


def call(command: Sequence[str | Path], failure: str, **options: Any) -> str:
    """Run a command. Returns what it printed.

    Args:
        command: the program and its arguments.
        failure: what it means that it failed; the last line it printed comes after it.
        options: for `subprocess.run`.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=True, **options
        )
    except FileNotFoundError as error:
        raise EmulationError(f"{failure}: {command[0]} is missing") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or f"exit code {error.returncode}").strip()
        raise EmulationError(f"{failure}: {said.splitlines()[-1]}") from error
    return done.stdout


def fresh(folder: Path) -> Path:
    """Return the folder, made anew and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def find_one(folder: Path, pattern: str) -> Path:
    """Return the one file of a pattern."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise EmulationError(f"{folder} holds {len(found)} files {pattern}, expected 1")
    return found[0]


if __name__ == "__main__":
    main()
