"""The soak script: a few real sessions, and what it says about samples."""

import dataclasses
import json

import pytest

from scripts.soak import Rooms, Sample, SoakError, main, verdict

SETTLED = Sample(20, 5.0, 450.0, 6, 9, 25)


def later(**changes) -> list[Sample]:
    warming = Sample(10, 2.0, 300.0, 3, 4, 20)
    return [warming, SETTLED, dataclasses.replace(SETTLED, sessions=200, **changes)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rss_mb": 500.0}, "memory grew by 11%, from 450.0 to 500.0 MB"),
        ({"threads": 7}, "threads went from 6 to 7"),
        ({"native_threads": 200}, "native threads went from 9 to 200"),
        ({"files": 26}, "files went from 25 to 26"),
    ],
)
def test_what_stays_behind_is_told(changes, sentence):
    assert verdict(later(**changes)) == [sentence]


def test_warming_up_is_forgiven_and_so_is_a_little_memory():
    assert verdict(later(rss_mb=480.0)) == []


def test_too_few_sessions_prove_nothing():
    assert "too few sessions" in verdict(later()[:2])[0]


def test_livekit_needs_a_server(monkeypatch):
    monkeypatch.delenv("LIVEKIT_URL", raising=False)
    with pytest.raises(SoakError, match="LIVEKIT_URL"):
        Rooms("livekit")


def test_real_sessions_are_opened_and_closed(tmp_path, capsys):
    out = tmp_path / "soak.json"
    options = ["--room", "file", "--sessions", "10", "--out", str(out), "--device", "cpu"]
    assert main(options) == 1
    assert "too few sessions to tell" in capsys.readouterr().out
    report = json.loads(out.read_text())
    (only,) = report["samples"]
    assert only["sessions"] == 10
    assert only["rss_mb"] > 50
    assert report["room"] == "file"


def test_a_session_that_is_refused_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Rooms, "body", lambda self, number: {"platform": "nowhere"})
    assert main(["--sessions", "5", "--out", str(tmp_path / "x.json"), "--device", "cpu"]) == 1
    assert "session 0 was refused: 400" in capsys.readouterr().err
