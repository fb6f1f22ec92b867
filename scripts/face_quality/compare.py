"""A page on which a person judges two renderings side by side without knowing which is which."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

TEMPLATE = Path(__file__).with_name("compare.html")


def pairs(first: Path, second: Path) -> list[str]:
    """Names of the videos that both folders hold.

    Raises:
        ValueError: there are none.
    """
    names = [{path.name for path in folder.glob("*.mp4")} for folder in (first, second)]
    if not (both := sorted(names[0] & names[1])):
        raise ValueError(
            f"{first} and {second} hold no MP4 of the same name; render the same clips into both"
        )
    return both


def page(first: Path, second: Path, seed: int) -> str:
    """The whole page as HTML, videos included, that needs no network.

    Order of the clips and sides are random; the same seed gives the same. Votes: ``A``, ``B`` or
    ``same``, A being ``first``.

    Raises:
        ValueError: the folders share no videos.
    """
    chance = random.Random(seed)
    names = pairs(first, second)
    chance.shuffle(names)
    trials = []
    for name in names:
        sides = ["A", "B"]
        chance.shuffle(sides)
        folders = {"A": first, "B": second}
        trials.append(
            {
                "name": name,
                "left": sides[0],
                "videos": [
                    base64.b64encode((folders[side] / name).read_bytes()).decode() for side in sides
                ],
            }
        )
    facts = {"A": str(first), "B": str(second), "seed": seed, "trials": trials}
    # A closing tag inside the data would end the script.
    data = json.dumps(facts).replace("</", "<\\/")
    return TEMPLATE.read_text("utf-8").replace("__DATA__", data)


def tally(votes: list[dict[str, str]]) -> dict[str, int]:
    """How often A, B and neither won, of a page's saved ``votes``."""
    return {side: sum(vote["vote"] == side for vote in votes) for side in ("A", "B", "same")}
