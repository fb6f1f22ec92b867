"""The quality script: what it says of videos whose truth is known, and the page for blind votes."""

import json
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from models.face import default_analyzer
from portraits import ANNA
from scripts import quality
from scripts.quality import compare, sheet, track

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "tests" / "fixtures" / "speech" / "papa_mama_baba.wav"
FRAMES = 75


def made_track(gap: np.ndarray, **columns: np.ndarray) -> track.Track:
    n = len(gap)
    usual = {
        "t": np.arange(n) / 25,
        "lip_gap": gap,
        "mouth_width": 0.8 + 0.1 * gap,
        "eye_right": np.full(n, 0.3),
        "eye_left": np.full(n, 0.3),
        "iod": np.full(n, 100.0),
        "mouth_x": np.full(n, 320.0),
        "mouth_y": np.full(n, 300.0),
        "sharpness": np.full(n, 50.0),
        "moved": np.full(n, 3.0),
        "outside": np.full(n, 0.5),
    }
    return usual | columns


def syllables(n: int = 250, late: int = 0) -> np.ndarray:
    """A mouth that opens with random strength about three times a second."""
    chance = np.random.default_rng(2)
    strength = chance.uniform(0.05, 0.3, 200)
    t = np.arange(n) - late
    phase = (t + 400) / 8
    return strength[phase.astype(int)] * np.sin(np.pi * (phase % 1)) ** 2


SOUND = (np.random.default_rng(3).normal(0, 3000, 250 * 640)).astype(np.int16)


def test_a_mouth_like_the_references_is_perfect_and_a_late_one_is_told():
    aim = made_track(syllables())
    same = quality.score(aim, SOUND, aim)
    assert same.r == pytest.approx(1.0)
    assert same.lag_ms == pytest.approx(0.0, abs=3)
    assert same.gap_ratio == pytest.approx(1.0)
    assert same.closure_auc == pytest.approx(1.0, abs=0.01)
    late = quality.score(made_track(0.5 * syllables(late=3)), SOUND, aim)
    assert late.lag_ms == pytest.approx(120, abs=8)
    assert late.r is not None
    assert late.r < 0.5
    assert late.gap_ratio == pytest.approx(0.5, abs=0.02)


def test_counts_swings_blinks_and_repeated_pictures():
    n = 250
    eyes = np.full(n, 0.3)
    for at in (40, 120, 200):
        eyes[at : at + 4] = [0.12, 0.05, 0.08, 0.2]
    moved = np.full(n, 3.0)
    moved[100:125] = 0.02
    seen = made_track(syllables(n), eye_right=eyes, eye_left=eyes, moved=moved)
    figures = quality.score(seen, SOUND)
    assert figures.blinks == pytest.approx(18, abs=0.5)
    assert figures.frozen == pytest.approx(0.1, abs=0.001)
    assert 5.0 < figures.reversals < 7.0


def test_silence_is_found_and_lips_in_it_judged():
    sound = SOUND.copy()
    sound[100 * 640 : 150 * 640] //= 100
    gap = syllables()
    gap[100:150] = 0.01
    assert quality.score(made_track(gap), sound).closed == 1.0
    gap[125:150] = 0.10
    assert quality.score(made_track(gap), sound).closed == pytest.approx(0.5, abs=0.05)
    assert quality.score(made_track(gap), SOUND).closed is None


def test_what_the_mesh_sees_between_closed_lips_is_no_gap():
    sound = SOUND.copy()
    sound[100 * 640 : 150 * 640] //= 100
    gap = syllables()
    gap[100:150] = 0.0
    assert quality.score(made_track(gap + 0.045), sound).closed == 1.0
    assert quality.score(made_track(gap + 0.15), sound).closed == 0.0, "that is an open mouth"


def test_sharpness_compares_closed_lips_with_closed_lips():
    gap = np.where(np.arange(250) % 50 < 25, 0.01, 0.2)
    sharp = np.where(gap < 0.03, 40.0, 80.0)
    figures = quality.score(made_track(gap, sharpness=sharp), SOUND)
    assert figures.sharpness == pytest.approx(2.0), "it ends open and began closed"
    assert figures.sharpness_alike == pytest.approx(1.0)


def test_a_track_keeps_its_holes_in_a_file(tmp_path):
    gap = syllables()
    gap[7] = np.nan
    track.save(made_track(gap), tmp_path / "a.json")
    again = track.load(tmp_path / "a.json")
    np.testing.assert_allclose(again["lip_gap"], gap, atol=1e-5)
    (tmp_path / "b.json").write_text('{"frames": {"t": [0]}}')
    with pytest.raises(ValueError, match="no face track"):
        track.load(tmp_path / "b.json")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> tuple[Path, Path]:
    """A clip of three seconds at a small size, through the real talk."""
    folder, out = tmp_path_factory.mktemp("clips"), tmp_path_factory.mktemp("out")
    (folder / "one").mkdir()
    (folder / "one" / "me.jpg").write_bytes((ANNA.path).read_bytes())
    with wave.open(str(SPEECH)) as source, wave.open(str(folder / "one" / "a.wav"), "wb") as short:
        short.setparams(source.getparams())
        short.writeframes(source.readframes(FRAMES * 640))
    assert quality.main(["render", str(folder), str(out), "--size", "320x240"]) == 0
    return folder, out


def test_renders_measures_and_shows(rendered):
    _, out = rendered
    (figures,) = json.loads((out / "scores.json").read_text()).values()
    assert figures["face"] == 1.0
    assert figures["r"] > 0.5, "the mouth follows what the network says"
    assert abs(figures["lag_ms"]) < 40
    lines = (out / "quality.md").read_text().splitlines()
    assert lines[2].startswith("| one |")
    assert "**mean**" in lines[3]
    from PIL import Image

    page = Image.open(out / "one.png")
    assert page.width > 1000
    assert np.asarray(page).std() > 20


def test_the_track_of_a_video_serves_as_reference_for_the_next(rendered, capsys):
    folder, out = rendered
    (folder / "one" / "reference_track.json").write_bytes((out / "one.track.json").read_bytes())
    assert quality.main(["measure", str(folder), str(out)]) == 0
    (figures,) = json.loads((out / "scores.json").read_text()).values()
    assert figures["r"] == pytest.approx(1.0, abs=1e-4)
    assert figures["gap_ratio"] == pytest.approx(1.0, abs=1e-3)
    assert "r 1.00" in capsys.readouterr().out


def test_measures_a_still_picture_as_frozen(tmp_path):
    photo = track.pictures(_still(tmp_path / "still.mp4"))
    seen = track.measure(photo, default_analyzer())
    assert quality.score(seen, SOUND).frozen == 1.0
    assert seen["outside"].max() < 1.0
    assert np.isfinite(seen["lip_gap"]).all()


def _still(path: Path) -> Path:
    with av.open(str(ANNA.path)) as source:
        picture = next(source.decode(video=0)).reformat(256, 256, "yuv420p")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for k in range(30):
            frame = av.VideoFrame.from_ndarray(picture.to_ndarray(), format="yuv420p")
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_clips_are_paired_by_folder_by_name_and_with_each_other(tmp_path):
    for name in ("a.jpg", "b.png", "a.wav", "a.track.json", "c.mp3"):
        (tmp_path / name).touch()
    (tmp_path / "anna").mkdir()
    for name in ("photo.jpg", "said.wav"):
        (tmp_path / "anna" / name).touch()
    found = quality.clips(tmp_path)
    assert [(c.name, c.photo.name, c.sound.name) for c in found] == [
        ("a", "a.jpg", "a.wav"),
        ("anna", "photo.jpg", "said.wav"),
    ]
    assert found[0].reference == tmp_path / "a.track.json"
    assert found[1].reference is None
    assert len(quality.clips(tmp_path, every=True)) == 2 * 2 + 1


def test_nothing_to_do_is_said(tmp_path, capsys):
    assert quality.main(["render", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "holds no photo with a sound" in capsys.readouterr().err
    assert quality.main(["compare", str(tmp_path), str(tmp_path), str(tmp_path / "x.html")]) == 2
    assert "no MP4 of the same name" in capsys.readouterr().err


def two_folders(tmp_path: Path, clips: int) -> tuple[Path, Path]:
    folders = tmp_path / "first", tmp_path / "second"
    for folder in folders:
        folder.mkdir()
        for k in range(clips):
            (folder / f"{k}.mp4").write_bytes(f"{folder.name} {k}".encode())
    return folders


def trials(page: str) -> list[dict]:
    data = page.split('type="application/json">')[1].split("</script>")[0]
    return json.loads(data)["trials"]


def test_the_blind_page_mixes_sides_and_order_but_knows_which_is_which(tmp_path):
    import base64

    first, second = two_folders(tmp_path, 12)
    page = compare.page(first, second, seed=4)
    assert page == compare.page(first, second, seed=4)
    assert page != compare.page(first, second, seed=5)
    shown = trials(page)
    assert sorted(t["name"] for t in shown) == sorted(f"{k}.mp4" for k in range(12))
    assert {t["left"] for t in shown} == {"A", "B"}
    for t in shown:
        left, right = (base64.b64decode(v).decode() for v in t["videos"])
        a, b = (left, right) if t["left"] == "A" else (right, left)
        number = t["name"].removesuffix(".mp4")
        assert (a, b) == (f"first {number}", f"second {number}")
    assert "http" not in page.replace("http-equiv", ""), "nothing is fetched"


def test_votes_add_up():
    votes = [{"vote": v} for v in ("A", "B", "B", "same")]
    assert compare.tally(votes) == {"A": 1, "B": 2, "same": 1}


def test_figures_in_a_sentence_survive_what_is_unknown():
    figures = quality.score(made_track(syllables()), SOUND)
    assert "shut in silence -" in sheet.sentence(figures)
