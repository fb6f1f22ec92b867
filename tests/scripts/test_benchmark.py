"""The benchmark of the photoreal engine runs where there is torch and numpy and no more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.warp.render.renderer import STAGES
from scripts import benchmark

ROOT = Path(__file__).resolve().parents[2]

BARE = """
import runpy, sys
for name in ("cv2", "PIL", "av", "httpx", "tqdm", "structlog", "pydantic", "pydantic_settings",
             "websockets", "filelock", "onnxruntime", "ai_edge_litert", "safetensors", "fastapi"):
    sys.modules[name] = None  # as if it were not installed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("benchmark") / "ditto.json"
    script = str(ROOT / "scripts" / "benchmark.py")
    options = ["--quick", "--device", "cpu", "--seconds", "0.1", "--trials", "1", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", BARE, script, "ditto", *options],
        capture_output=True,
        text=True,
        cwd=out.parent,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(out.read_text())
    result["printed"] = done.stdout
    return result


def test_every_table_is_there_and_says_what_it_is_of(report):
    assert list(report["tables"]) == [
        "Limits",
        "Stages",
        "Key points to I420 on the host",
        "First frame",
        "Memory",
        "Against the plain way",
        "Live sessions, all speaking",
    ]
    for name in report["tables"]:
        assert f"\n{name}\n" in report["printed"]
    assert "Random weights: tiny networks, not the released size" in report["printed"]
    assert report["machine"]["device"] == "cpu"


def test_figures_hang_together(report):
    stages = {row["stage"]: row for row in report["tables"]["Stages"]}
    whole = stages["stitch, warp, decoder as one"]
    parts = stages["warp"]["GFLOP each"] + stages["decoder"]["GFLOP each"]
    assert whole["GFLOP each"] == pytest.approx(parts, rel=0.02)
    for row in stages.values():
        assert row["ms"] > 0
        if row["TFLOP/s"]:
            reached = row["GFLOP each"] * row["batch"] / row["ms"]  # GFLOP/ms are TFLOP/s
            assert row["TFLOP/s"] == pytest.approx(reached, rel=0.03)
    sessions = report["tables"]["Live sessions, all speaking"]
    assert [row["sessions"] for row in sessions] == [1, 2]
    plain, ours = report["tables"]["Against the plain way"]
    assert ours["times"] == pytest.approx(ours["frames/s"] / plain["frames/s"], rel=0.02)


def test_defaults_are_those_of_the_kind(monkeypatch, tmp_path, capsys):
    seen = {}

    def measure(arguments) -> dict:
        seen[arguments.what, arguments.quick] = vars(arguments).copy()
        return {"rows": [{"a": 1, "bb": "x"}]}

    monkeypatch.setattr(benchmark, "command", lambda what: measure)
    out = ["--out", str(tmp_path / "x.json")]
    assert benchmark.main(["engine", "--threads", "7", *out]) == 0
    assert benchmark.main(["ditto", "--quick", *out]) == 0
    assert benchmark.main(["ditto", *out]) == 0
    assert seen["engine", False]["threads"] == [7]
    assert seen["engine", False]["sessions"] == [1, 2, 4, 6]
    assert seen["ditto", True]["sessions"] == [1, 2]
    assert 12 in seen["ditto", False]["sessions"]
    assert "| a | bb |" in capsys.readouterr().out
    assert json.loads((tmp_path / "x.json").read_text())["rows"] == [{"a": 1, "bb": "x"}]


def live(tmp_path: Path, what: str, *options: str) -> dict:
    out = tmp_path / f"{what}.json"
    given = [what, "--quick", "--sizes", "320x240", "--out", str(out), *options]
    assert benchmark.main(given) == 0
    return json.loads(out.read_text())


def test_the_engine_by_threads_and_by_stages(tmp_path):
    report = live(tmp_path, "engine", "--threads", "1", "2")
    speeds = report["tables"]["Speech to pictures, all sessions speaking"]
    assert [row["threads"] for row in speeds] == [1, 2]
    assert all(row["frames/s"] > 0 for row in speeds)
    stages = {row["stage"]: row["CPU ms median"] for row in report["tables"]["Stages"]}
    assert list(stages) == [
        *("prepare a portrait", "motion", "render"),
        *(f"render: {name}" for name in STAGES),
        *("compress to VP8", "compress to MP4"),
    ]
    assert all(took > 0 for took in stages.values())
    assert not list(tmp_path.glob("*.mp4*"))


@pytest.mark.parametrize("room", ["file", "whep"])
def test_sessions_that_speak_at_once(tmp_path, room):
    report = live(tmp_path, "capacity", "--sessions", "2", "--threads", "2", "--room", room)
    (row,) = report["rows"]
    assert (row["sessions"], report["threads"]) == (2, 2)
    assert row["render p50 ms"] > 0
    assert row["fps worst"] > 0
