"""What the start says to a person, and what to a program."""

from __future__ import annotations

import io

import pytest

from api.announce import announce
from api.dispatch.port import Capacity

ADDRESS = "http://127.0.0.1:8000"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Workers:
    """A dispatcher whose capacity is another one every time it is asked for."""

    def __init__(self, *answers: Capacity) -> None:
        self.answers = list(answers)

    async def capacity(self) -> Capacity:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def told(*answers: Capacity, patience_s: float = 10) -> list[str]:
    stream = Terminal()
    await announce(ADDRESS, Workers(*answers), stream, patience_s=patience_s)
    return stream.getvalue().strip("\n").splitlines()


async def test_three_lines_once_the_worker_is_ready():
    nothing, ready = Capacity(0, 0, 0), Capacity(1, 2, 0, ("warp, 1280x960",))
    assert await told(nothing, Capacity(1, 0, 0), ready) == [
        "  Open      http://127.0.0.1:8000",
        "  Engine    warp, 1280x960",
        "  Sessions  2 at a time",
    ]


@pytest.mark.parametrize(
    ("capacity", "engine", "sessions"),
    [
        (Capacity(1, 0, 0, ("warp, 640x480",)), "warp, 640x480", "none: too slow"),
        (Capacity(0, None, 0), "on demand", "as many as those hold"),
        (Capacity(0, 0, 0), "no worker is ready", "0 at a time"),
    ],
)
async def test_what_there_is_is_told_as_it_is(capacity, engine, sessions):
    _, second, third = await told(capacity, patience_s=0.1)
    assert engine in second
    assert sessions in third


async def test_a_program_gets_the_address_at_once():
    stream = io.StringIO()
    await announce(ADDRESS, Workers(Capacity(0, 0, 0)), stream)
    assert stream.getvalue() == f"\n  Open {ADDRESS}\n\n"
