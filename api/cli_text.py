"""How the command line shows things, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence


class UsageError(Exception):
    """What was asked for does not exist or cannot be; the text says what to do."""


def limit_text(value: int | None) -> str:
    """A plan's limit; None is none."""
    return "unlimited" if value is None else str(value)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they have to be."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())
