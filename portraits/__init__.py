"""The people who come with the product: four invented faces that everybody may use.

This package is their one home, because both halves of the product need them and either may be
installed without the other: the API offers them as public avatars, a worker measures with one how
many sessions it holds. ``scripts/sample_portraits`` renders them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Person:
    """One of them."""

    name: str
    """As people read it; in lower case the name of the file."""
    tags: tuple[str, ...]
    """What to find the person by: sex, age, surroundings."""

    @property
    def path(self) -> Path:
        """The picture: a JPEG of 1280 x 1280 pixels."""
        return Path(__file__).with_name(f"{self.name.lower()}.jpg")


ANNA = Person("Anna", ("woman", "young", "garden"))
MARK = Person("Mark", ("man", "middle-aged", "office"))
ROSA = Person("Rosa", ("woman", "old", "cafe"))
SAM = Person("Sam", ("man", "young", "city"))

PEOPLE = (ANNA, MARK, ROSA, SAM)
"""In the order in which they are shown."""
