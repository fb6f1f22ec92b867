from __future__ import annotations

import av
import numpy as np
import pytest
from PIL import Image

from models.engine import Canvas
from models.face import load_photo
from models.i420 import i420_to_rgb
from models.warp.engine import WarpEngine
from models.warp.motion.motion_vector import INDEX, rest
from models.warp.pose import WarpPose
from portraits import ROSA
from scripts.people_sheet import GAP, TILE, moments, sheet


def spoken(apertures: list[float]) -> list[np.ndarray]:
    """Frames of Rosa, three of each opening of the mouth."""
    engine = WarpEngine()
    identity = engine.prepare(load_photo(ROSA.path), Canvas(256, 256))
    frames = []
    for aperture in apertures:
        motion = rest()
        motion[INDEX["aperture"]], motion[INDEX["jaw"]] = aperture, 2 * aperture
        frames += [i420_to_rgb(engine.render([WarpPose(identity, motion)])[0])] * 3
    return frames


def test_an_open_mouth_comes_over_one_that_is_nearly_shut():
    frames = spoken([0.0, 0.1, 0.2, 0.3])
    wide, narrow = moments(frames)
    assert np.array_equal(wide, frames[9])
    assert np.array_equal(narrow, frames[3])
    page = sheet([[wide, narrow]] * 2)
    assert page.size == (2 * TILE + GAP, 2 * TILE + GAP)
    assert page.getpixel((TILE + GAP // 2, 10)) == (255, 255, 255)


def test_videos_without_a_face_are_refused():
    with pytest.raises(ValueError, match="no face"):
        moments([np.full((64, 64, 3), 90, np.uint8)] * 4)


def test_the_command_writes_a_picture(tmp_path, monkeypatch):
    from scripts.people_sheet import main

    video, out = tmp_path / "rosa.mp4", tmp_path / "people.jpg"
    with av.open(str(video), "w") as target:
        pictures = target.add_stream("h264", 25, width=256, height=256, pix_fmt="yuv420p")
        sound = target.add_stream("aac", 48_000, layout="mono")
        for frame in spoken([0.0, 0.3]):
            target.mux(pictures.encode(av.VideoFrame.from_ndarray(frame)))
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), "fltp", "mono")
        quiet.sample_rate = 48_000
        target.mux(sound.encode(quiet))
        target.mux(pictures.encode())
        target.mux(sound.encode())
    monkeypatch.setattr("sys.argv", ["people_sheet", str(out), str(video)])
    assert main() == 0
    assert Image.open(out).size == (TILE, 2 * TILE + GAP)
    monkeypatch.setattr("sys.argv", ["people_sheet", str(out), str(tmp_path / "none.mp4")])
    assert main() == 2
