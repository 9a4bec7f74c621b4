"""``python -m hybridsim`` is the command line."""

from hybridsim.cli import main

main()
