"""The command line's first step: `samrefine`, and `python -m samrefine_rt`."""

import signal
import sys
from types import FrameType
from typing import NoReturn

_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""Signals that end a run in order, with what is said of it."""


def run() -> None:
    """Run `samrefine`; Ctrl-C ends it with exit code 130 and SIGTERM with 143, as shells count.

    This holds while modules are imported too, so nothing is imported before.
    """
    for number in _SIGNALS:
        signal.signal(number, _stop)
    from samrefine_rt.cli import main

    main()


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """Leave through every `finally`, so that nothing temporary stays."""
    # A second signal ends the process at once; the next run sweeps what it leaves
    signal.signal(number, signal.SIG_DFL)
    sys.stderr.write(f"\n{_SIGNALS[signal.Signals(number)]}\n")
    raise SystemExit(128 + number)


if __name__ == "__main__":
    run()
