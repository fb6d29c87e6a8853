"""Run the wheel's demo and the C example on an emulated ARM64 CPU: labels equal this machine's.

    make arm64

It installs nothing: an ARM64 Python of Debian, a compiler for ARM64, its wheels and QEMU are
unpacked under `build/arm64`, and used again the next time. It wants apt-get with Debian's package
lists, pip, gcc, and the exporter, which writes the graph that the C example runs.
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

C_LIBRARY = ROOT / "runtime" / "c"
SCENE = ROOT / "samrefine_rt" / "demo_images" / "scene-4.jpg"

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
        sys.stdout.write(compare_examples() + "\n")
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
    prefix = unpack(CACHE / "prefix", "arm64", "python3", "libstdc++6", "libc6-dev")
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


def compare_examples() -> str:
    """Label an image by the C example on both CPUs. Returns what to say about it.

    Raises:
        EmulationError: it cannot be compiled or run, or the labels have other bytes.
    """
    folder = fresh(CACHE / "example")
    graph, image = folder / "label.onnx", folder / "scene.ppm"
    export = ["-m", "samrefine_rt", "export", "label", "demo", f"--out={graph}", "--quiet"]
    call([sys.executable, *export], "the graph cannot be exported", cwd=ROOT)
    # What C cannot read everywhere, Python has read already
    script = (
        f"from PIL import Image; Image.open({str(SCENE)!r}).convert('RGB').save({str(image)!r})"
    )
    call([CACHE / "native" / "bin" / "python", "-c", script], "the scene cannot be read")
    architecture = call(["dpkg", "--print-architecture"], "this is no Debian").strip()
    cross = unpack(CACHE / "cross", architecture, "gcc-aarch64-linux-gnu")
    libraries = next((cross / "usr" / "lib").glob("*/libbfd-*.so")).parent
    compiler = cross / "usr" / "bin" / "aarch64-linux-gnu-gcc"
    sides = {
        "this CPU": build_example(["gcc"], CACHE / "native", folder / "native"),
        CPU: build_example(
            [str(compiler), f"--sysroot={CACHE / 'prefix'}"],
            CACHE / "packages",
            folder / "arm64",
            LD_LIBRARY_PATH=str(libraries),
        ),
    }
    labels = {}
    for name, program in sides.items():
        runner = [] if name != CPU else [unpack_qemu(), "-cpu", CPU, "-L", CACHE / "prefix"]
        path = f"LD_LIBRARY_PATH={program.parent / f'lib-{program.name}'}"
        prefix = ["env", path] if name != CPU else [*runner, "-E", path]
        out = program.with_suffix(".pgm")
        call(["nice", *prefix, program, graph, image, out], f"the C example fails on {name}")
        labels[name] = out.read_bytes()
    if len({*labels.values()}) > 1:
        raise EmulationError("the C example's label differs between this CPU and ARM64")
    return f"the C example's label is equal, byte by byte ({len(labels[CPU])} bytes)"


def build_example(
    compiler: Sequence[str], packages: Path, program: Path, **environment: str
) -> Path:
    """Compile the C example against the library in an onnxruntime wheel. Returns the program.

    Args:
        compiler: the command.
        packages: a folder that the wheel is installed or unpacked under.
        program: the file to write; the library is linked beside it, in `lib-<name>`.
        environment: variables of the compiler.
    """
    library = next(packages.rglob("onnxruntime/capi/libonnxruntime.so.*"))
    folder = fresh(program.parent / f"lib-{program.name}")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    sources = [C_LIBRARY / name for name in ("samrefine.c", "example.c", "example_image.c")]
    flags = ["-std=c11", "-O2", f"-I{C_LIBRARY}", f"-L{folder}"]
    libraries = ["-lonnxruntime", "-lm", "-pthread"]
    command = [*compiler, *flags, *sources, "-o", program, *libraries]
    call(command, "the C example cannot be compiled", env={**os.environ, **environment})
    return program


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
