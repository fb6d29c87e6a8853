"""What has come of a file is all there, or it is said that it is not."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from samrefine_export.weights.partial import Partial
from samrefine_runtime.errors import OutputError

LIMIT = 100_000


def test_a_piece_of_which_the_disk_takes_a_part(tmp_path: Path) -> None:
    """A system call that writes a part of a piece is no error by itself."""
    part = Partial(tmp_path / "model.pth")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        with pytest.raises(OutputError, match=r"model.pth.part: cannot be written"):
            part.append(b"x" * (2 * LIMIT))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert part.size == LIMIT
