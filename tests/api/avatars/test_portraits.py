"""The processes that examine photos: they may hang, die or be killed, and nobody waits for ever."""

import asyncio
import io
import json
import os
import signal
import sys
import textwrap

import pytest
from PIL import Image

from api.avatars import alignment
from api.avatars.portraits import FacePortraits
from api.http.errors import ApiError
from models.face import inspect_portrait, load_photo
from tests.fakes import photos

SCRIPT = """
import json, os, sys, time
def say(**head):
    pictures = head.pop("pictures", [])
    line = json.dumps(head | {"sizes": [len(p) for p in pictures]})
    sys.stdout.buffer.write(line.encode() + b"\\n" + b"".join(pictures))
    sys.stdout.buffer.flush()
def heard():
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit()
    return sys.stdin.buffer.read(json.loads(line)["sizes"][0])
"""


def face_worker(body):
    """The command of a face worker that does as it is told."""
    return (sys.executable, "-c", SCRIPT + textwrap.dedent(body))


WELL_BEHAVED = """
say(ready=True)
while True:
    photo = heard()
    if photo == b"hang":
        time.sleep(3600)
    if photo == b"die":
        os.abort()
    if photo == b"fault":
        say(failed="MemoryError")
    elif photo == b"pid":
        say(pictures=[str(os.getpid()).encode()])
    elif photo == b"environment":
        say(pictures=[json.dumps(dict(os.environ)).encode()])
    else:
        say(pictures=[photo])
"""


@pytest.fixture
async def portraits():
    made = FacePortraits(1, time_limit_s=1.0, patience_s=10.0, command=face_worker(WELL_BEHAVED))
    yield made
    await made.aclose()


async def refusal(doing):
    with pytest.raises(ApiError) as caught:
        await doing
    return caught.value


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_photo_that_takes_too_long_is_refused_and_the_next_one_is_not(portraits):
    before = int(await portraits.crop(b"pid", "1:1"))
    error = await refusal(portraits.crop(b"hang", "1:1"))
    assert (error.status, error.code) == (400, "INVALID_IMAGE")
    assert "takes too long" in error.message
    assert gone(before)
    assert await portraits.crop(b"photo", "1:1") == b"photo"


async def test_a_photo_that_kills_its_process_is_refused_and_the_next_one_is_not(portraits):
    error = await refusal(portraits.crop(b"die", "1:1"))
    assert (error.status, error.code) == (400, "INVALID_IMAGE")
    assert await portraits.crop(b"photo", "1:1") == b"photo"


async def test_a_fault_of_ours_is_not_called_the_photo_s(portraits):
    error = await refusal(portraits.crop(b"fault", "1:1"))
    assert (error.status, error.code) == (503, "IMAGE_CHECK_UNAVAILABLE")
    assert "MemoryError" not in str(error.body())
    assert await portraits.crop(b"photo", "1:1") == b"photo"


async def test_a_process_that_died_while_idle_is_started_again(portraits):
    os.kill(int(await portraits.crop(b"pid", "1:1")), signal.SIGKILL)
    assert await portraits.crop(b"photo", "1:1") == b"photo"


async def test_who_gives_up_waiting_does_not_get_the_next_one_s_answer(portraits):
    await portraits.crop(b"photo", "1:1")
    task = asyncio.create_task(portraits.crop(b"hang", "1:1"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await portraits.crop(b"another", "1:1") == b"another"


async def test_each_photo_gets_its_own_answer_and_one_is_examined_at_a_time(portraits):
    pictures = [b"photo %d" % number for number in range(20)]
    assert await asyncio.gather(*(portraits.crop(p, "1:1") for p in pictures)) == pictures
    pids = await asyncio.gather(*(portraits.crop(b"pid", "1:1") for _ in range(5)))
    assert len(set(pids)) == 1


async def test_a_second_worker_goes_on_while_the_first_hangs():
    portraits = FacePortraits(2, time_limit_s=5, command=face_worker(WELL_BEHAVED))
    stuck = asyncio.create_task(portraits.crop(b"hang", "1:1"))
    await asyncio.sleep(0.05)
    assert await portraits.crop(b"photo", "1:1") == b"photo"
    assert not stuck.done()
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)
    await portraits.aclose()


async def test_a_photo_does_not_wait_for_its_turn_for_ever():
    portraits = FacePortraits(1, time_limit_s=5, patience_s=0.5, command=face_worker(WELL_BEHAVED))
    await portraits.crop(b"photo", "1:1")
    stuck = asyncio.create_task(portraits.crop(b"hang", "1:1"))
    await asyncio.sleep(0)
    error = await refusal(portraits.crop(b"photo", "1:1"))
    assert (error.status, error.code) == (503, "IMAGE_CHECK_UNAVAILABLE")
    assert error.headers["Retry-After"]
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)
    await portraits.aclose()


async def test_models_that_are_missing_are_told_and_asked_for_again(tmp_path):
    """As when files could not be fetched the first time."""
    script = f"""
    if not os.path.exists({str(tmp_path / "there")!r}):
        say(failed="the file cannot be fetched")
        sys.exit()
    """
    portraits = FacePortraits(1, command=face_worker(textwrap.dedent(script) + WELL_BEHAVED))
    error = await refusal(portraits.crop(b"photo", "1:1"))
    assert (error.status, error.code) == (503, "IMAGE_CHECK_UNAVAILABLE")
    (tmp_path / "there").touch()
    assert await portraits.crop(b"photo", "1:1") == b"photo"
    await portraits.aclose()


async def test_a_slow_start_is_not_begun_anew_by_everyone_who_gave_up(tmp_path):
    """Files of many megabytes are fetched the first time."""
    starts = tmp_path / "starts"
    script = f"open({str(starts)!r}, 'a').write('x'); time.sleep(0.8)\n" + WELL_BEHAVED
    portraits = FacePortraits(1, patience_s=0.3, command=face_worker(script))
    assert (await refusal(portraits.crop(b"photo", "1:1"))).code == "IMAGE_CHECK_UNAVAILABLE"
    await asyncio.sleep(0.7)
    assert await portraits.crop(b"photo", "1:1") == b"photo"
    assert starts.read_text() == "x"
    await portraits.aclose()


async def test_the_process_is_not_told_the_installation_s_secrets(portraits, monkeypatch):
    monkeypatch.setenv("AVATAR_API_SECRET", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("AVATAR_CACHE", "kept")
    told = json.loads(await portraits.crop(b"environment", "1:1"))
    assert "hush" not in told.values()
    assert told["AVATAR_CACHE"] == "kept"


async def test_closing_ends_the_process(portraits):
    pid = int(await portraits.crop(b"pid", "1:1"))
    await portraits.aclose()
    assert gone(pid)


async def test_the_real_process_ends_when_its_starter_is_killed():
    """Its standard input ends then."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api.avatars.face_worker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert b"ready" in await process.stdout.readline()
    # Ctrl-C in the terminal is not for it.
    process.send_signal(signal.SIGINT)
    process.stdin.write(b'{"verb": "make", "sizes": [1000]}\nhalf a photo')
    process.stdin.close()
    async with asyncio.timeout(5):
        assert await process.wait() == 0


# What it makes of photos


def opened(data):
    return Image.open(io.BytesIO(data))


def test_a_portrait_s_pictures():
    made = alignment.examine(photos.encoded(photos.portrait()))
    assert made.ratio == "4:3"
    assert opened(made.image).size == (1200, 900)
    assert opened(made.preview).size == (500, 500)
    assert sorted(made.crops) == ["1:1", "3:4", "4:3"]
    # The face fills the preview well, and lies in its middle.
    face = inspect_portrait(load_photo(made.preview), alignment.analyzer()).face
    assert 0.35 < face.height / 500 < 0.7
    assert abs((face.box[0] + face.box[2]) / 2 - 250) < 40


def test_small_photos_are_not_blown_up():
    small = photos.portrait().resize((420, 350))
    made = alignment.examine(photos.encoded(small))
    assert opened(made.image).size == (640, 480)


@pytest.mark.parametrize(
    ("ratio", "scale"), [("4:3", 0.19), ("3:4", 0.19), ("1:1", 0.19), ("3:4", 0.5), ("4:3", 1.6)]
)
def test_a_crop_passes_the_worker_s_checks_and_is_framed_like_the_photo(ratio, scale):
    """From the smallest face that passes to more than any canvas shows."""
    head = photos.portrait().crop((350, 150, 1190, 1230))
    head = head.resize((round(head.width * scale), round(head.height * scale)))
    scene = Image.new("RGB", (round(head.width * 1.5) + 200, head.height + 60), (110, 112, 108))
    scene.paste(head, ((scene.width - head.width) // 2, 60))
    photo = photos.encoded(scene, quality=97)
    rgb = load_photo(photo)
    face = inspect_portrait(rgb, alignment.analyzer()).face
    crop = load_photo(alignment.crop(photo, ratio))
    own = inspect_portrait(crop, alignment.analyzer()).face
    canvas = alignment.CANVASES[ratio]
    direct = alignment.frame_portrait(rgb, face, canvas)
    framed = alignment.frame_portrait(crop, own, canvas)
    apart = abs(framed.landmarks[:, :2] - direct.landmarks[:, :2]).mean()
    assert apart < 0.01 * canvas.height
    assert max(crop.shape) <= 1.35 * alignment.CROP_SIDE
