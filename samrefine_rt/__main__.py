"""The command line's first step: `samrefine`, and `python -m samrefine_rt`."""

from samrefine_rt.signals import exit_at_once


def run() -> None:
    """Run `samrefine`. Signals are dealt with before anything that takes time is imported."""
    exit_at_once()
    from samrefine_rt.cli import main

    main()


if __name__ == "__main__":
    run()
