"""Reading `docker/`: stages of a Dockerfile, and what .dockerignore leaves of the repository."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from io import BytesIO
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[1]
SOURCE, ENVIRONMENT = "/src", "/opt/samrefine"
"""Where the images have the repository, and the environment that they run."""

_PYTHONS = {
    "python:3.11": "3.11",
    "ubuntu:22.04": "3.10",
    "l4t-tensorrt:r10.3.0": "3.10",
    "ubuntu:24.04": "3.12",
    "ubuntu24.04": "3.12",
}
"""Part of a base's name to its Python."""


@dataclass(frozen=True)
class Instruction:
    """One instruction of a stage."""

    name: str
    """In capitals: RUN."""
    flags: dict[str, str]
    """"--from=build" as {"from": "build"}."""
    value: str
    """What comes after the flags, in one line."""

    @property
    def words(self) -> list[str]:
        """The words of the value: those of a JSON list, or split as a shell does."""
        return json.loads(self.value) if self.value.startswith("[") else shlex.split(self.value)


@dataclass(frozen=True)
class Stage:
    """What one FROM begins."""

    base: str
    name: str
    """Empty where it has none."""
    instructions: list[Instruction]

    def all(self, name: str) -> list[Instruction]:
        """The instructions of a name."""
        return [each for each in self.instructions if each.name == name]

    @property
    def python(self) -> str:
        """Version of the base's Python, "3.11"."""
        (found,) = {version for part, version in _PYTHONS.items() if part in self.base}
        return found

    @property
    def health_command(self) -> list[str]:
        """What HEALTHCHECK runs."""
        (check,) = self.all("HEALTHCHECK")
        return json.loads(check.value.removeprefix("CMD "))


def read_images() -> dict[str, list[Stage]]:
    """Read every Dockerfile. Returns the stages by the image's name."""
    files = sorted((ROOT / "docker").glob("*.Dockerfile"))
    return {path.name.removesuffix(".Dockerfile"): _read_stages(path) for path in files}


def pip_steps(stages: list[Stage]) -> list[str]:
    """The RUN instructions that call pip."""
    return [run.value for stage in stages for run in stage.all("RUN") if "pip " in run.value]


def _read_stages(path: Path) -> list[Stage]:
    stages: list[Stage] = []
    for entry in DockerfileParser(fileobj=BytesIO(path.read_bytes())).structure:
        instruction = _instruction(entry["instruction"], entry["value"])
        if instruction.name == "FROM":
            base, _, name = instruction.value.partition(" AS ")
            stages.append(Stage(base, name, []))
        elif instruction.name != "COMMENT":
            stages[-1].instructions.append(instruction)
    return stages


def _instruction(name: str, value: str) -> Instruction:
    flags: dict[str, str] = {}
    while value.startswith("--"):
        flag, _, value = value.partition(" ")
        key, _, setting = flag.removeprefix("--").partition("=")
        flags[key] = setting
        value = value.lstrip()
    return Instruction(name, flags, value)


@cache
def context_files() -> tuple[Path, ...]:
    """List the files that a build gets, relative to the repository's root."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    # Nothing is taken but what a pattern names: other folders are large, and not walked through
    tops = {Path(pattern[1:]).parts[0] for pattern in patterns if pattern.startswith("!")}
    walked = (path for top in tops for path in ((ROOT / top), *(ROOT / top).rglob("*")))
    files = (path.relative_to(ROOT) for path in walked if path.is_file())
    return tuple(sorted(path for path in files if not _is_ignored(path, patterns)))


def _is_ignored(path: Path, patterns: list[str]) -> bool:
    """Whether .dockerignore names a file or a folder above it; the last pattern that does counts.

    Good for the patterns that this project has: names from the root on, `*`, and `**/` in front.
    """
    is_ignored = False
    for pattern in patterns:
        glob = pattern.removeprefix("!")
        if any(fnmatchcase(str(each), glob) for each in (path, *path.parents)):
            is_ignored = not pattern.startswith("!")
    return is_ignored


def copy_context(folder: Path) -> Path:
    """Copy what a build gets. Returns the folder."""
    for path in context_files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
    return folder
