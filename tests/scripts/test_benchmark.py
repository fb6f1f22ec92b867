"""The benchmark of the photoreal engine runs where there is torch and numpy and no more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert benchmark.main(["engine", "--batches", "7", *out]) == 0
    assert benchmark.main(["ditto", "--quick", *out]) == 0
    assert benchmark.main(["ditto", *out]) == 0
    assert seen["engine", False]["batches"] == [7]
    assert seen["engine", False]["sessions"] == [1, 2, 4, 6]
    assert seen["ditto", True]["sessions"] == [1, 2]
    assert 12 in seen["ditto", False]["sessions"]
    assert "| a | bb |" in capsys.readouterr().out
    assert json.loads((tmp_path / "x.json").read_text())["rows"] == [{"a": 1, "bb": "x"}]
