import subprocess
import sys
from pathlib import Path

import av
import pytest

from portraits import ANNA
from worker.cli import main
from worker.diagnostics import capacity, check

ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture(scope="module")
def greeting(tmp_path_factory) -> Path:
    """The first 1.6 s of the sample speech, as a WAV file."""
    path = tmp_path_factory.mktemp("speech") / "greeting.wav"
    with av.open(str(ASSETS / "speech.ogg")) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("pcm_s16le", rate=24_000, layout="mono")
        converter = av.AudioResampler("s16", "mono", 24_000)
        for frame in source.decode(audio=0):
            if frame.time > 1.6:
                break
            for piece in converter.resample(frame):
                target.mux(stream.encode(piece))
        target.mux(stream.encode(None))
    return path


def test_talk_makes_a_video_of_the_asked_size_and_length(greeting, tmp_path, capsys):
    out = tmp_path / "talk.mp4"
    files = ["--portrait", str(ANNA.path), "--speech", str(greeting)]
    shape = ["--aspect", "1:1", "--size", "256x256"]
    assert main(["talk", *files, *shape, "--out", str(out), "--fast"]) == 0
    assert "speech to first frame" in capsys.readouterr().out
    with av.open(str(out)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.width, video.height, video.codec.name) == (256, 256, "h264")
        assert (audio.rate, audio.codec.name) == (48_000, "aac")
        frames = sum(1 for _ in container.decode(video))
    with av.open(str(greeting)) as container:
        speech_s = container.duration / av.time_base
    assert frames == pytest.approx(speech_s * 25 + 10, abs=1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--portrait": "nobody.jpg"}, "nobody.jpg does not exist"),
        ({"--portrait": "text.jpg"}, "Use JPEG, PNG, GIF or WebP"),
        ({"--portrait": "blank.png"}, "face"),
        ({"--speech": "nothing.wav"}, "nothing.wav does not exist"),
        ({"--speech": "text.jpg"}, "has no sound track"),
        ({"--out": "no/such/folder/talk.mp4"}, "cannot record into"),
        ({"--size": "256x256"}, "--aspect"),
    ],
)
def test_bad_input_is_one_sentence_and_a_status(
    greeting, tmp_path, monkeypatch, capsys, change, sentence
):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Path("text.jpg").write_text("not a picture")
    Image.new("RGB", (400, 400), "grey").save("blank.png")
    options = {
        "--portrait": str(ANNA.path),
        "--speech": str(greeting),
        "--out": "talk.mp4",
        **change,
    }
    status = main(["talk", "--fast", *[part for item in options.items() for part in item]])
    printed = capsys.readouterr().err.strip().splitlines()
    assert status in (1, 2)
    assert sentence in printed[-1]
    assert not any("Traceback" in line for line in printed)
    assert not Path("talk.mp4").exists()


def test_wrong_use_is_explained():
    answer = subprocess.run(
        [sys.executable, "-m", "worker", "talk", "--size", "big"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "is not a size; write WIDTHxHEIGHT" in answer.stderr


def test_check_says_what_this_machine_holds_at_each_size(monkeypatch, capsys):
    monkeypatch.setattr(capacity, "AUTO_SCALES", (0.375, 0.25))
    monkeypatch.setattr(check, "MEASURE_S", 0.2)
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["engine", "warp", "(auto)"] for line in lines)
    held = [line for line in lines if "live sessions at 25 frames/s" in line]
    for size, line in zip(("480x352", "320x240"), held, strict=True):
        assert f"of {size}" in line
    assert sum("which a worker takes here" in line for line in held) == 1
