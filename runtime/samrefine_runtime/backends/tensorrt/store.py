"""Engines beside the graphs they were built from.

    engines/<graph>-<precision>-<key>/engine.plan    what TensorRT loads
                                      verdict.json   what it was built from and how it compared
    engines/<machine>.json                           the engines that sessions take here
    engines/<machine>.timing                         what was measured while building
    engines/lock                                     held by a build

The key is a hash of all that decides a plan: the graph's files, the full version of TensorRT, the
GPU, the profiles, the precision. Nothing else of the bundle is ever written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from samrefine_runtime.atomic import atomic_folder, output_errors, write_bytes
from samrefine_runtime.backends.tensorrt.cuda import Cuda
from samrefine_runtime.backends.tensorrt.native import TensorRt
from samrefine_runtime.backends.tensorrt.signing import (
    is_marked,
    make_secret,
    mark,
    read_secret,
)
from samrefine_runtime.bundle import Graph
from samrefine_runtime.errors import BackendUnavailableError, OutputError, RunError, printable

FOLDER = "engines"
"""Name of the folder, beside the .onnx files."""

_PLAN, _VERDICT = "engine.plan", "verdict.json"

_DIGITS = 16
"""Digits of a hash in names."""

_MARK_DIGITS = 64

_MOST_JSON_BYTES = 1 << 20
"""Larger than any verdict or list of engines."""

_BUILD = "samrefine build"


@dataclass(frozen=True)
class Machine:
    """What a plan is tied to."""

    tensorrt: str
    """Full version."""
    gpu: str
    compute_capability: str
    """Such as "8.7"."""

    @classmethod
    def of(cls, cuda: Cuda, native: TensorRt) -> Machine:
        """Describe this machine."""
        major, minor = cuda.compute_capability
        return cls(native.version, cuda.name, f"{major}.{minor}")

    def __str__(self) -> str:
        return printable(f"TensorRT {self.tensorrt} on {self.gpu} (SM {self.compute_capability})")

    @property
    def key(self) -> str:
        """Hash of the machine, for names."""
        return _hash(asdict(self))


@dataclass(frozen=True)
class Verdict:
    """How an engine compares with its graph, and what it was built from."""

    graph: str
    """Name in the manifest."""
    reference: str
    """Digest of the graph's files as the manifest lists them, with which sessions are opened."""
    source: str
    """Digest of the files that it was built from, which may be those of another precision."""
    precision: str
    machine: Machine
    profiles: Any = None
    """Shapes, as JSON values."""
    is_passed: bool = False
    """Whether the engine may be used."""
    reason: str = ""
    """Why not."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """How far its outputs are from those of the graph in ONNX Runtime."""
    plan_sha256: str = ""
    samples: str = ""
    """Digest of the images with which it was compared."""

    @property
    def folder(self) -> str:
        """Name of the engine's folder."""
        key = [self.source, self.reference, asdict(self.machine), self.profiles]
        return f"{self.graph}-{self.precision}-{_hash(key)}"


def digest(graph: Graph) -> str:
    """Return the digest of a graph's files, from their hashes."""
    return hashlib.sha256("".join(graph.files.values()).encode()).hexdigest()


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


class EngineStore:
    """The engines of a bundle."""

    def __init__(self, folder: Path):
        """Take the folder that holds a bundle's .onnx files."""
        self.path = folder / FOLDER

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever built."""
        return not self.path.is_dir()

    # Reading

    def find(self, graph: Graph, machine: Machine) -> tuple[Verdict, bytes]:
        """Return the verdict and the plan of a graph for a machine.

        Raises:
            BackendUnavailableError: there is none that may be used, and why.
        """
        listed = self._read(self.path / f"{machine.key}.json").get("engines")
        folder = listed.get(graph.name) if isinstance(listed, dict) else None
        # A name alone: what is listed must not lead out of the folder
        if not isinstance(folder, str) or not _is_name(folder):
            raise BackendUnavailableError(self._why_none(graph, machine))
        verdict = self.verdict(folder)
        if verdict is None or not verdict.is_passed:
            raise BackendUnavailableError(
                f"the engine of graph {graph.name!r} was not built and verified by this user, and "
                f"engines of others are not run: {_BUILD}"
            )
        made_for = (verdict.graph, verdict.reference, verdict.machine)
        if made_for != (graph.name, digest(graph), machine):
            raise BackendUnavailableError(
                f"the engine of graph {graph.name!r} is of another graph or machine: {_BUILD}"
            )
        return verdict, self._plan(folder, verdict)

    def verdict(self, folder: str) -> Verdict | None:
        """Return a verdict that this user's build has written, None if there is none."""
        signed = self._read(self.path / folder / _VERDICT)
        content, found = signed.get("verdict"), signed.get("mark")
        if not isinstance(content, dict) or not is_marked(read_secret(), _bytes(content), found):
            return None
        try:
            return Verdict(**{**content, "machine": Machine(**content["machine"])})
        except (KeyError, TypeError):  # of another release
            return None

    def timing_cache(self, machine: Machine) -> bytes:
        """Return what earlier builds of this user have measured, or nothing."""
        try:
            content = (self.path / f"{machine.key}.timing").read_bytes()
        except OSError:
            return b""
        found, cache = content[:_MARK_DIGITS].decode("latin-1"), content[_MARK_DIGITS:]
        return cache if is_marked(read_secret(), cache, found) else b""

    # Writing

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other builds away.

        Raises:
            RunError: another build is at work.
            OutputError: the folder cannot be written.
        """
        # A bundle is passed on: a link in it must not lead the build elsewhere
        if self.path.is_symlink():
            raise OutputError(f"{self.path} is a link, expected a folder of the bundle")
        with output_errors(self.path):
            self.path.mkdir(exist_ok=True)
            file = (self.path / "lock").open("a")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{self.path}: another build is writing engines here") from None
            yield

    def write(self, verdict: Verdict, plan: bytes) -> None:
        """Put a verdict, and the plan if it passed, in place together. Raises OutputError."""
        folder = self.path / verdict.folder
        # Those of an earlier build, whoever ran it; other files there are not ours
        is_ours = self._is_ours(folder / _VERDICT, "verdict", "mark")
        with atomic_folder(folder, replaces=(_PLAN, _VERDICT) if is_ours else ()) as temporary:
            if verdict.is_passed:
                (temporary / _PLAN).write_bytes(plan)
            content = asdict(verdict)
            signed = {"verdict": content, "mark": mark(make_secret(), _bytes(content))}
            (temporary / _VERDICT).write_bytes(_pretty(signed))

    def write_timing_cache(self, machine: Machine, cache: bytes) -> None:
        """Keep what was measured. Raises OutputError."""
        path = self.path / f"{machine.key}.timing"
        try:
            is_ours = path.stat().st_size == 0 or _is_hex(path.read_bytes()[:_MARK_DIGITS])
        except OSError:  # not there
            is_ours = True
        _check_free(path, is_ours)
        write_bytes(path, mark(make_secret(), cache).encode() + cache)

    def write_list(self, machine: Machine, verdicts: Mapping[str, Verdict]) -> None:
        """Let sessions on a machine take these engines, by graph, and no others."""
        engines = {name: verdict.folder for name, verdict in verdicts.items()}
        listed = {"machine": asdict(machine), "engines": engines}
        path = self.path / f"{machine.key}.json"
        _check_free(path, self._is_ours(path, "machine", "engines") or not path.exists())
        write_bytes(path, _pretty(listed))

    def plan(self, verdict: Verdict) -> bytes | None:
        """Return the plan of a verdict, None where it is not there or damaged."""
        try:
            return self._plan(verdict.folder, verdict)
        except BackendUnavailableError:
            return None

    def _is_ours(self, path: Path, *entries: str) -> bool:
        """Return whether a JSON file is one that builds write, or empty, which loses nothing."""
        is_empty = path.is_file() and path.stat().st_size == 0
        return is_empty or self._read(path).keys() == set(entries)

    def _plan(self, folder: str, verdict: Verdict) -> bytes:
        """Read a plan. Raises BackendUnavailableError unless it is the one that was judged."""
        path = self.path / folder / _PLAN
        try:
            plan = path.read_bytes()
        except OSError as error:
            plan = b""
            reason = error.strerror or "cannot be read"
        else:
            reason = "it is not what was built"
        if hashlib.sha256(plan).hexdigest() != verdict.plan_sha256:
            raise BackendUnavailableError(
                f"{printable(path)} is damaged ({reason}): {_BUILD}", is_broken=True
            )
        return plan

    def _why_none(self, graph: Graph, machine: Machine) -> str:
        """Say why there is no engine for a machine, and for which there are some."""
        found = [self._read(path).get("machine") for path in sorted(self.path.glob("*.json"))]
        others = [each for each in map(_machine, found) if each not in (None, machine)]
        if len(others) < len(found):
            return (
                f"no engine of graph {graph.name!r} passed its comparison here: {_BUILD} says why"
            )
        built = f"; the engines are for {', '.join(map(str, others))}" if others else ""
        return f"no engine of graph {graph.name!r} is built for {machine}{built}: {_BUILD}"

    def _read(self, path: Path) -> dict[str, Any]:
        """Read a JSON object; nothing where there is none."""
        try:
            with path.open("rb") as file:
                value = json.loads(file.read(_MOST_JSON_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


def _machine(value: Any) -> Machine | None:
    try:
        return Machine(**{name: str(each) for name, each in value.items()})
    except (AttributeError, TypeError):
        return None


def _check_free(path: Path, is_ours: bool) -> None:
    """Raise OutputError for a file in the way that no build wrote."""
    if not is_ours:
        raise OutputError(f"{path} is in the way and was not written by this package: move it away")


def _is_hex(content: bytes) -> bool:
    return len(content) == _MARK_DIGITS and all(each in b"0123456789abcdef" for each in content)


def _is_name(text: str) -> bool:
    return text not in ("", ".", "..") and "/" not in text and "\0" not in text


def _bytes(content: Mapping[str, Any]) -> bytes:
    # As it will be when it is read back: tuples are lists
    return json.dumps(content, sort_keys=True).encode()


def _pretty(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
