"""`python -m samrefine_rt`: the command line."""

from samrefine_rt.cli import main

main()
