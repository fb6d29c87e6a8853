"""`samrefine doctor`."""

from __future__ import annotations

import json

from samrefine_rt import __version__
from samrefine_runtime.backends import BACKENDS
from tests.command import run


def test_what_this_machine_can_run() -> None:
    result = run("doctor")
    assert result.exit_code == 0 and result.stderr == ""
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == f"samrefine {__version__}"
    at = lines.index("backends, as auto prefers them:")
    states = {
        name: line.removeprefix(f"{name} ")
        for name, line in zip(BACKENDS, lines[at + 1 :], strict=False)
        if line.startswith(f"{name} ")
    }
    assert list(states) == list(BACKENDS)
    assert states["cpu"] == "starts (fp32)"
    # Whether there is a GPU or none, with CUDA in order or not
    assert states["cuda"].startswith(("starts (fp32)", "does not start: "))


def test_json() -> None:
    printed = json.loads(run("doctor", "--json").stdout)
    assert printed["written_by"].startswith("samrefine ")
    assert [state["name"] for state in printed["backends"]] == list(BACKENDS)
