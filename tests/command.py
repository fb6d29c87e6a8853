"""Running `samrefine` in tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from samrefine_rt.cli import main
from samrefine_runtime.runs import HIDDEN


def run(*arguments: object) -> Result:
    """`samrefine` with these arguments; an exception that is no message to the user is raised."""
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def failed(result: Result, exit_code: int) -> str:
    """The one line that an unsuccessful run has to say."""
    assert result.exit_code == exit_code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.stderr
    return errors[0].removeprefix("Error: ")


def write_image(path: Path, seed: int = 0, image_shape: tuple[int, int] = (40, 56)) -> Path:
    """Write an image of a red and a blue square on noisy gray."""
    rng = np.random.default_rng(seed)
    image = np.full((*image_shape, 3), 90, np.int64) + rng.integers(-20, 20, (*image_shape, 3))
    image[6:20, 6:20] = (230, 10, 10)
    image[22:36, 30:50] = (10, 10, 230)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(path)
    return path


def files_in(folder: Path) -> list[str]:
    """Relative paths of all files, hidden and temporary ones too, but for the journal's; sorted."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path) for path in files if path.parts[0] != HIDDEN)
