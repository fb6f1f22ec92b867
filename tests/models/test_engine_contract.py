"""Every engine against the port's contract."""

import pytest

from models.ditto.engine import DittoEngine, loudness_encoder
from models.face import default_analyzer, load_photo
from models.warp.engine import WarpEngine
from portraits import ANNA
from tests.fakes.ditto_files import tiny_networks
from tests.models.engine_contract import CANVAS, EngineContract


@pytest.fixture(scope="module")
def photo():
    return load_photo(ANNA.path)


class TestWarp(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls):
        return WarpEngine()

    @pytest.fixture(scope="class")
    @classmethod
    def identity(cls, engine, photo):
        return engine.prepare(photo, CANVAS)


class TestDitto(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls):
        return DittoEngine(tiny_networks(), loudness_encoder, analyzer=default_analyzer())

    @pytest.fixture(scope="class")
    @classmethod
    def identity(cls, engine, photo):
        return engine.prepare(photo, CANVAS)
