"""The process of the command line, also as ``python -m hybridsim``."""

from __future__ import annotations

from hybridsim.interrupt import end_when_interrupted


def main() -> None:
    """Entry point: interrupts are handled before anything slow is imported."""
    end_when_interrupted()
    from hybridsim.cli import main as command

    command()


if __name__ == "__main__":
    main()
