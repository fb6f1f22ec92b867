"""The insightface backend, against a module with the signatures of the real one."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from models.face.insightface import InsightFaceAnalyzer


def found(box, score, nose_x, nose_y, pose):
    points = np.zeros((68, 3), np.float32)
    points[0, :2], points[16, :2], points[8, :2] = (100, 150), (200, 150), (150, 250)
    points[36, :2], points[45, :2], points[30, :2] = (115, 150), (185, 150), (nose_x, nose_y)
    return types.SimpleNamespace(
        bbox=np.array(box, np.float32),
        det_score=np.float32(score),
        landmark_2d_106=np.ones((106, 2), np.float32),
        landmark_3d_68=points,
        pose=np.array(pose, np.float32),
    )


@pytest.fixture
def package(monkeypatch):
    """Installs the fake; its ``answers`` are what the next call returns."""
    record = types.SimpleNamespace(answers=[], seen=None, init=None, prepared=None)

    class FaceAnalysis:
        def __init__(self, name="buffalo_l", root="~/.insightface", allowed_modules=None, **kwargs):
            record.init = (name, allowed_modules)

        def prepare(self, ctx_id, det_thresh=0.5, det_size=(640, 640)):
            record.prepared = (ctx_id, det_size)

        def get(self, img, max_num=0):
            record.seen = img
            return record.answers

    app = types.ModuleType("insightface.app")
    app.FaceAnalysis = FaceAnalysis
    root = types.ModuleType("insightface")
    root.app = app
    monkeypatch.setitem(sys.modules, "insightface", root)
    monkeypatch.setitem(sys.modules, "insightface.app", app)
    return record


def test_answers_in_the_ports_terms(package):
    package.answers = [
        found((0, 0, 40, 50), 0.9, 150, 190, (0, 0, 0)),
        found((100, 100, 200, 260), 0.8, 165, 205, (-12.0, 25.0, 3.0)),
        found((0, 0, 500, 500), 0.3, 150, 190, (0, 0, 0)),
    ]
    analyzer = InsightFaceAnalyzer(device=0)
    assert package.prepared == (0, (640, 640))
    assert "detection" in package.init[1]
    rgb = np.zeros((300, 300, 3), np.uint8)
    rgb[..., 0] = 200
    large, small = analyzer.analyze(rgb)
    assert package.seen[0, 0].tolist() == [0, 0, 200]
    assert large.box == (100, 100, 200, 260)
    assert large.layout == "points106"
    assert large.landmarks.shape == (106, 2)
    assert (large.pose.yaw, large.pose.pitch) == (25.0, 12.0)
    assert large.pose.roll == pytest.approx(0)
    assert small.height == 50


@pytest.mark.parametrize(("nose_x", "sign"), [(135, -1), (165, 1)])
def test_yaw_follows_the_nose_whatever_the_sign_of_the_package(package, nose_x, sign):
    for theirs in (-20.0, 20.0):
        package.answers = [found((0, 0, 9, 9), 0.9, nose_x, 190, (0, theirs, 0))]
        (face,) = InsightFaceAnalyzer().analyze(np.zeros((64, 64, 3), np.uint8))
        assert face.pose.yaw == sign * 20.0


def test_without_the_package_the_error_names_it_and_its_licence(monkeypatch):
    monkeypatch.setitem(sys.modules, "insightface", None)
    with pytest.raises(RuntimeError, match=r"avatar-server\[insightface\].*non-commercial"):
        InsightFaceAnalyzer()


def test_importing_the_face_package_does_not_import_insightface():
    assert "insightface" not in sys.modules
