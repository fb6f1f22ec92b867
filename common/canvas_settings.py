"""Aspect ratios and the size of the picture for each."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from models.engine import Canvas

AspectRatio = Literal["4:3", "3:4", "1:1"]

UNMEASURED_SCALE = 0.5
"""The scale ``auto`` stands for where nothing is measured."""


class CanvasSettings(BaseModel):
    """Size of the picture for each aspect ratio, in pixels before ``scale``."""

    landscape: str = Field(
        default="1280x960", pattern=r"^\d{2,4}x\d{2,4}$", description="size of 4:3"
    )
    portrait: str = Field(
        default="960x1280", pattern=r"^\d{2,4}x\d{2,4}$", description="size of 3:4"
    )
    square: str = Field(
        default="1280x1280", pattern=r"^\d{2,4}x\d{2,4}$", description="size of 1:1"
    )
    scale: Annotated[float, Field(gt=0, le=2)] | Literal["auto"] = Field(
        default="auto",
        description="factor on every size, at most 2; auto: the largest of 1, 0.75 and 0.5 that"
        " holds two sessions here",
    )

    @field_validator("scale", mode="before")
    @classmethod
    def _number_or_auto(cls, value: Any) -> Any:
        # A union would tell of both things it can be; one sentence is enough.
        if value == "auto":
            return value
        try:
            scale = float(value)
        except (TypeError, ValueError):
            scale = math.nan
        if not 0 < scale <= 2:
            raise ValueError("must be auto, or a number above 0 and up to 2")
        return scale

    def at(self, scale: float) -> CanvasSettings:
        """The same sizes with another factor."""
        return self.model_copy(update={"scale": scale})

    def canvas(self, ratio: AspectRatio) -> Canvas:
        """The canvas of ``ratio``: scaled, sides rounded to 16 pixels (whole macroblocks). Where
        the scale is ``auto`` and nothing was measured it is 0.5."""
        scale = UNMEASURED_SCALE if self.scale == "auto" else self.scale
        name = {"4:3": self.landscape, "3:4": self.portrait, "1:1": self.square}[ratio]
        width, height = (max(64, round(int(side) * scale / 16) * 16) for side in name.split("x"))
        return Canvas(width, height)

    @model_validator(mode="after")
    def _fits(self) -> CanvasSettings:
        for ratio in ("4:3", "3:4", "1:1"):
            self.canvas(ratio)
        return self
