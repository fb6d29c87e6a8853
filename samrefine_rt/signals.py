"""How Ctrl-C and SIGTERM end the command line: with the exit codes that shells know.

Before anything is written the process ends at once: modules are still imported, and compiled ones
may swallow an exception that is raised inside their import. During the work it leaves through every
`finally`, so that nothing temporary stays.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""Signals that end a run, with what is said of it."""

_FIRST_SIGNAL_CODE = 128
"""Exit code of a process that a signal ended, less the signal's number."""


def exit_at_once() -> None:
    """Let signals end the process at once."""
    for number in _SIGNALS:
        signal.signal(number, _at_once)


def exit_in_order() -> None:
    """Let signals end the work in order, where `exit_at_once` was called before.

    A program that only uses this package keeps its own signals.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is _at_once:
            signal.signal(number, _in_order)


def _at_once(number: int, _frame: FrameType | None) -> NoReturn:
    _say(number)
    os._exit(_FIRST_SIGNAL_CODE + number)


def _in_order(number: int, _frame: FrameType | None) -> NoReturn:
    # A second signal ends the process whatever it is doing; the next run sweeps what it leaves
    signal.signal(number, signal.SIG_DFL)
    _say(number)
    raise SystemExit(_FIRST_SIGNAL_CODE + number)


def _say(number: int) -> None:
    sys.stderr.write(f"\n{_SIGNALS[signal.Signals(number)]}\n")
    sys.stderr.flush()
