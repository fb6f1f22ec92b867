"""Motion to frames: the photo warped by its person's motion, as I420, on a CPU."""

from models.warp.render.renderer import render

__all__ = ["render"]
