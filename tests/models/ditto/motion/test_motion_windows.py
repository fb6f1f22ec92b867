"""The loop of windows against the reference's numbers; what is better than there; hours of it."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from models.ditto.motion.motion_windows import (
    CHANNELS,
    POSE,
    REMEMBERED_ROWS,
    Condition,
    MotionWindows,
    emotion,
    mirrored,
    motion_row,
)
from tests.fakes.ditto_motion import seeded_motion
from tests.fakes.parity_rules import pipeline_normal, pipeline_uniform

FIXTURES = Path(__file__).parents[3] / "fixtures" / "parity" / "pipeline"
WANT = np.load(FIXTURES / "online_windows.npz")
RUNS = json.loads((FIXTURES / "online_windows.json").read_text())
STRIDE = 3
"""The fixture holds every third channel of the rows."""


REFERENCE = motion_row(seeded_motion("ref"))[0]
CLIP = (torch.from_numpy(WANT["clip_min"]), torch.from_numpy(WANT["clip_max"]))
SILENCE = 0.25


def condition() -> Condition:
    return Condition(
        emotion=torch.from_numpy(pipeline_uniform("emo", (37, 8))),
        eye_open=torch.from_numpy(pipeline_uniform("ch.eye_open", (1, 2))),
        eye_ball=torch.from_numpy(np.float32(0.01) * pipeline_normal("ch.eye_ball", (1, 6))),
        canonical=torch.from_numpy(pipeline_normal("ch.sc", (63,))),
    )


def fixture_features(frames: int) -> torch.Tensor:
    return torch.from_numpy(pipeline_normal("audfeat", (200, 1024))[:frames])


class FakeModel:
    """Stands for the diffusion model: noise, the start motion and a trace of the speech."""

    def __init__(self) -> None:
        self.requests = []

    def __call__(self, request):
        noise = pipeline_normal(f"window{len(self.requests)}", (1, 80, 265))[0]
        self.requests.append(request)
        return (
            torch.from_numpy(np.float32(0.3) * noise)
            + 0.5 * request.start
            + 0.2 * request.condition[:, :1]
        )


def loop(overlap: int, **options) -> MotionWindows:
    silence = torch.full((overlap, 1024), SILENCE)
    return MotionWindows(REFERENCE, condition(), silence, overlap=overlap, clip=CLIP, **options)


def drain(windows: MotionWindows, model) -> torch.Tensor:
    rows = [torch.empty(0, CHANNELS)]
    while windows.ready:
        rows.append(windows.accept(model(windows.request())))
    return torch.cat(rows)


def run_in_blocks(windows: MotionWindows, model, features: torch.Tensor):
    rows, totals = [], []
    for block in features.split(5):
        windows.hear(block)
        rows.append(drain(windows, model))
        totals.append(sum(map(len, rows)))
    windows.finish()
    rows.append(drain(windows, model))
    return torch.cat(rows), totals


def test_the_row_of_a_photo_is_the_reference_one():
    np.testing.assert_array_equal(REFERENCE.numpy(), WANT["ref_motion_vector"])


@pytest.mark.parametrize("name", RUNS["runs"])
def test_the_loop_gives_the_reference_rows(name):
    run = RUNS["runs"][name]
    windows = loop(run["overlap"], hold_expression=run["fix_kp_cond"] == 1, released=True)
    model = FakeModel()
    rows, totals = run_in_blocks(windows, model, fixture_features(run["n_features"]))
    assert totals == run["emitted_total_after_each_block"]
    assert len(rows) == run["n_emitted"]
    assert len(model.requests) == run["n_network_calls"]
    close = {"rtol": 0, "atol": 1e-5}
    np.testing.assert_allclose(rows.numpy()[:, ::STRIDE], WANT[f"{name}.emitted"], **close)
    np.testing.assert_allclose(windows.zero.numpy(), WANT[f"{name}.d0"], **close)
    starts = torch.stack([r.start for r in model.requests]).numpy()
    np.testing.assert_allclose(starts[:, ::STRIDE], WANT[f"{name}.kp_cond"], **close)
    for request, which in ((model.requests[0], "first"), (model.requests[-1], "last")):
        columns = request.condition.numpy()[:, [0, *range(1024, 1040)]]
        np.testing.assert_array_equal(columns, WANT[f"{name}.cond_cols_{which}"])
    # Conditions are only put together, so they are the same to the bit.
    checksums = [zlib.crc32(r.condition.numpy().tobytes()) for r in model.requests]
    assert checksums == run["cond_crc32_per_call"]


def test_emotions_are_the_reference_ones():
    np.testing.assert_allclose(emotion(4), WANT["emo_4"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(emotion(3, 4), WANT["emo_3_4"], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="0 to 7"):
        emotion(8)


def test_a_video_is_run_forth_and_back():
    assert mirrored(torch.arange(20), 7).tolist() == RUNS["mirror_index_size7_first20"]
    assert mirrored(torch.tensor([-5, 0, 9]), 1).tolist() == [0, 0, 0]


@pytest.mark.parametrize("overlap", [70, 75])
@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("frames", [1, 4, 5, 7, 9, 10, 11, 19, 20, 37, 80, 103])
def test_every_frame_heard_gets_its_row_and_none_more(overlap, eager, frames):
    windows = loop(overlap, eager=eager)
    rows, totals = run_in_blocks(windows, FakeModel(), fixture_features(frames))
    assert len(rows) == frames
    assert windows.pending == 0
    assert all(total <= 5 * (i + 1) for i, total in enumerate(totals))
    assert rows.isfinite().all()


def test_what_is_better_changes_no_row_that_the_reference_gets_right():
    features = fixture_features(103)
    ours, _ = run_in_blocks(loop(70), FakeModel(), features)
    theirs, _ = run_in_blocks(loop(70, released=True), FakeModel(), features)
    torch.testing.assert_close(ours, theirs[:103], rtol=0, atol=0)


def test_heard_at_once_or_in_pieces_it_is_the_same():
    features = fixture_features(63)
    in_pieces, _ = run_in_blocks(loop(70), FakeModel(), features)
    windows = loop(70)
    windows.hear(features)
    windows.finish()
    torch.testing.assert_close(drain(windows, FakeModel()), in_pieces, rtol=0, atol=0)


def test_the_first_row_comes_earlier_when_eager():
    def first(windows: MotionWindows) -> int:
        for frame in range(60):
            windows.hear(fixture_features(1))
            if len(drain(windows, FakeModel())):
                return frame + 1
        raise AssertionError

    assert [first(loop(o)) for o in (70, 75)] == [20, 10]
    assert [first(loop(o, eager=True)) for o in (70, 75)] == [10, 5]


class SmoothModel:
    """A model whose motion sways calmly and sets out from the start it was given."""

    def __init__(self, step: float = 0.0, seed: int = 0) -> None:
        self.step = step
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, request):
        steps = torch.randn(80, CHANNELS, generator=self.generator) * self.step
        sway = 0.05 * torch.sin(torch.arange(80) / 12)[:, None]
        return request.start + steps.cumsum(0) + sway


def free_loop(**options) -> MotionWindows:
    silence = torch.zeros(options.get("overlap", 70), 16)
    return MotionWindows(torch.zeros(CHANNELS), condition(), silence, **options)


def speak(windows: MotionWindows, model, frames: int) -> torch.Tensor:
    windows.hear(torch.zeros(frames, 16))
    windows.finish()
    return drain(windows, model)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("unseen", [0, 3, 10, 17])
def test_after_a_cut_motion_goes_on_from_the_row_last_shown(unseen, eager):
    windows, model = free_loop(eager=eager), SmoothModel(0.02)
    windows.hear(torch.zeros(60, 16))
    rows = drain(windows, model)
    shown = rows[len(rows) - unseen - 1]
    windows.cut(unseen)
    assert (windows.frames, windows.rows, windows.pending) == (0, 0, 0)
    assert not windows.ready
    after = speak(windows, model, 40)
    assert len(after) == 40
    step = (after[0] - shown).abs().max()
    assert step < 0.15  # the model's own rows are up to 0.1 apart
    assert (rows[0] - shown).abs().max() > 0.2


def test_the_next_stretch_goes_on_where_the_last_one_ended():
    windows, model = free_loop(), SmoothModel(0.02)
    rows = speak(windows, model, 33)
    after = speak(windows, model, 33)
    assert (after[0] - rows[-1]).abs().max() < 0.15


def test_a_cut_before_the_first_row_leaves_the_loop_as_new():
    windows = loop(70)
    windows.hear(fixture_features(15))
    windows.cut(4)
    rows, _ = run_in_blocks(windows, FakeModel(), fixture_features(40))
    fresh, _ = run_in_blocks(loop(70), FakeModel(), fixture_features(40))
    torch.testing.assert_close(rows, fresh, rtol=0, atol=0)


def test_more_unseen_rows_than_are_remembered_go_back_as_far_as_memory_does():
    windows, model = free_loop(), SmoothModel(0.02)
    rows = speak(windows, model, 600)
    windows.cut(10_000)
    after = speak(windows, model, 20)
    steps = (rows - after[0]).abs().amax(1)
    assert REMEMBERED_ROWS <= 600 - int(steps.argmin()) <= REMEMBERED_ROWS + 11


def test_eager_windows_that_disagree_are_eased_into_each_other():
    chance = torch.Generator().manual_seed(0)

    def model(request):
        return (torch.rand(CHANNELS, generator=chance) * 2 - 1).expand(80, -1)

    windows = free_loop(eager=True)
    steps = speak(windows, model, 300).diff(dim=0).abs().max()
    assert steps < 0.5  # the windows are up to 2 apart, and have 10 rows to make up for it


@pytest.mark.parametrize("pull", [0.0, 1 / 750])
def test_the_pull_keeps_the_pose_near_the_photo(pull):
    windows, model = free_loop(pull=pull), SmoothModel(0.05)
    windows.hear(torch.zeros(20_000, 16))
    end = drain(windows, model)[-5000:, POSE]
    # A free walk is 0.05 * sqrt(20000) = 7 away; a held one 0.05 * sqrt(750 / 2) = 1.
    assert (end.std() < 1.5) == (pull > 0)


@pytest.mark.parametrize(
    ("overlap", "eager", "minutes"),
    [(70, False, 60), (70, True, 15), (75, False, 15), (75, True, 15)],
)
def test_an_hour_of_speech_with_random_cuts(overlap, eager, minutes):
    chance = np.random.default_rng(overlap + eager)
    windows = free_loop(overlap=overlap, eager=eager, pull=1 / 750)
    answer = torch.randn(80, CHANNELS) * 0.02
    heard_in_all = given_in_all = heard = given = 0
    while heard_in_all < minutes * 60 * 25:
        frames = int(chance.integers(1, 400))
        windows.hear(torch.zeros(frames, 16))
        heard += frames
        heard_in_all += frames
        if chance.random() < 0.5:
            windows.finish()
        while windows.ready and chance.random() < 0.98:
            rows = windows.accept(answer + 0.9 * windows.request().start)
            given += len(rows)
            assert rows.isfinite().all()
        assert given == windows.rows <= heard
        assert windows.pending == heard - given
        if (windows._finished and windows.ready) or chance.random() < 0.3:
            windows.cut(int(chance.integers(0, 300)))
        if windows.frames == 0 or windows._finished:
            given_in_all += given
            heard = given = 0
            if windows._finished:
                windows.cut()
        assert sum(map(len, windows._given)) <= REMEMBERED_ROWS + 2 * (80 - overlap)
        assert windows._history is None or len(windows._history) <= 160
    assert given_in_all > heard_in_all / 2


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="overlap by 40 to 79"):
        loop(80)
    with pytest.raises(ValueError, match="70 rows of silence"):
        MotionWindows(REFERENCE, condition(), torch.zeros(3, 1024))
    with pytest.raises(ValueError, match="not eager"):
        loop(70, eager=True, released=True)
    windows = loop(70)
    with pytest.raises(RuntimeError, match="too few frames"):
        windows.request()
    windows.hear(fixture_features(20))
    windows.finish()
    with pytest.raises(ValueError, match="before the next is heard"):
        windows.hear(fixture_features(5))
