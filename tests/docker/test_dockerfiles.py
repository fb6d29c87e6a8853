"""The images' Dockerfiles, read: there is no engine here that builds them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from samrefine_runtime.backends import names
from tests.dockerfiles import (
    ENVIRONMENT,
    ROOT,
    SOURCE,
    Stage,
    context_files,
    pip_steps,
    read_images,
)

IMAGES = read_images()
RUNTIME_EXTRAS = {"cpu", "gpu", "tensorrt"}
WITH_TORCH = "export"

each_image = pytest.mark.parametrize("name", IMAGES)


def final(name: str) -> Stage:
    return IMAGES[name][-1]


def test_images() -> None:
    assert IMAGES.keys() == {"cpu", "gpu", "jetson6", "jetson7", WITH_TORCH}


@each_image
def test_copied_paths_exist(name: str) -> None:
    """In the context, after .dockerignore, or in the stage that they are copied from."""
    files = context_files()
    made_by: dict[str, set[str]] = {}
    for stage in IMAGES[name]:
        copies = stage.all("COPY")
        assert copies
        for copy in copies:
            *sources, _ = copy.words
            if "from" in copy.flags:
                assert set(sources) <= made_by[copy.flags["from"]]
            else:
                for source in sources:
                    assert any(path.is_relative_to(source) for path in files), source
        made_by[stage.name] = {run.words[-1] for run in stage.all("RUN") if "-m venv" in run.value}


def test_context_is_small_and_whole() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if not line.startswith("#")) == "*"
    files = context_files()
    assert sum((ROOT / path).stat().st_size for path in files) < 10e6
    tops = {path.parts[0] for path in files}
    assert tops == {
        "LICENSE", "README.md", "constraints.txt", "docker", "export", "pyproject.toml",
        "runtime", "samrefine_rt",
    }  # fmt: skip
    assert not [path for path in files if "__pycache__" in path.parts or path.suffix == ".pyc"]
    assert Path("runtime/samrefine_runtime/demo_bundle/encoder.onnx") in files


@each_image
def test_bases_are_pinned(name: str) -> None:
    for stage in IMAGES[name]:
        assert re.search(r":r?\d+\.\d+", stage.base), stage.base


@each_image
def test_pip_steps_are_pinned(name: str) -> None:
    """By constraints that are in the context, and to this project: never a package by its name."""
    steps = pip_steps(IMAGES[name])
    assert len(steps) == 1
    words = steps[0].split()
    constraints = [words[at + 1] for at, word in enumerate(words) if word == "-c"]
    assert f"{SOURCE}/docker/constraints.txt" in constraints
    files = {f"{SOURCE}/{path}" for path in context_files()}
    assert set(constraints) <= files
    assert "--no-cache-dir" in words
    assert re.fullmatch(rf'"{SOURCE}\[[a-z,]+\]"', words[-1])


@each_image
def test_torch_is_in_the_export_image_alone(name: str) -> None:
    """Its extra names it; tests/docker/test_pip_steps.py looks at what pip takes."""
    extras = set(re.findall(r"\w+", pip_steps(IMAGES[name])[0].rpartition("[")[2]))
    if name == WITH_TORCH:
        assert extras == {"export"}
        return
    assert extras and extras <= RUNTIME_EXTRAS
    for stage in IMAGES[name]:
        for instruction in stage.instructions:
            assert not re.search(r"\btorch|samrefine_export", instruction.value)


@each_image
def test_apt_steps_leave_no_lists(name: str) -> None:
    for stage in IMAGES[name]:
        for run in stage.all("RUN"):
            if "apt-get" in run.value:
                installs = run.value.count("apt-get install")
                assert run.value.count("apt-get install -y --no-install-recommends") == installs
                assert run.value.endswith("rm -rf /var/lib/apt/lists/*")


@each_image
def test_user_is_not_root(name: str) -> None:
    stage = final(name)
    (user,) = (each.value for each in stage.all("USER"))
    assert int(user) > 0
    (made,) = (run.value for run in stage.all("RUN") if "useradd" in run.value)
    owner = re.match(rf"useradd --uid {user} --create-home (\w+)", made)[1]
    # What the entry point and the health check run as; steps that need root come before
    after = stage.instructions[[each.name for each in stage.instructions].index("USER") + 1 :]
    assert {each.name for each in after} == {"WORKDIR", "HEALTHCHECK", "ENTRYPOINT"}
    assert f"install -d -o {owner} -g {owner} {stage.all('WORKDIR')[0].value}" in made


@each_image
def test_health_check_runs_the_runtime(name: str) -> None:
    stage = final(name)
    (check,) = stage.all("HEALTHCHECK")
    assert check.flags.keys() == {"interval", "timeout"}
    python, script, backend, *_ = stage.health_command
    assert python == "python3"
    assert backend in names()
    copied = {f"{each.words[-1]}{Path(each.words[0]).name}" for each in stage.all("COPY")}
    assert script in copied


@each_image
def test_onnxruntime_reports_to_nobody(name: str) -> None:
    assert "ORT_DISABLE_TELEMETRY=1" in [each.value for each in final(name).all("ENV")]


@each_image
def test_environment_comes_first(name: str) -> None:
    stage = final(name)
    assert f"PATH={ENVIRONMENT}/bin:$PATH" in [each.value for each in stage.all("ENV")]
    assert [each.words for each in stage.all("ENTRYPOINT")] == [["samrefine"]]
    # Python of the environment is a link: both stages need the same one
    assert IMAGES[name][0].python == stage.python


@each_image
def test_readme_has_it(name: str) -> None:
    readme = (ROOT / "docker" / "README.md").read_text()
    build = f"docker build -f docker/{name}.Dockerfile -t samrefine:{name}"
    assert build in readme
    assert f"samrefine:{name} " in readme.replace(build, "")
    assert build in (ROOT / "docker" / f"{name}.Dockerfile").read_text()
