"""``/v1/avatars`` over HTTP, with the real face analysis in its own process."""

import asyncio
import base64
import io
import time

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from api.avatars.catalogue import PUBLIC
from api.avatars.fetch import ImageFetcher
from api.avatars.portraits import FacePortraits
from tests.fakes import photos
from tests.fakes.avatar_api import BASE_URL, avatar_api
from tests.fakes.image_site import image_site

pytestmark = pytest.mark.asyncio(loop_scope="module")

UPLOAD = "/v1/avatars/upload-face"
GOOD = photos.encoded(photos.portrait())


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site():
    async with image_site() as running:
        running.serve("/portrait.jpg", GOOD)
        running.serve("/page.html", b"<!doctype html><p>not a photo</p>")
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory, site):
    portraits = FacePortraits(1)
    fetcher = ImageFetcher(resolver=site.resolver, connector=site.connector, time_limit_s=5)
    try:
        async with avatar_api(
            tmp_path_factory.mktemp("api"), portraits, fetcher=fetcher
        ) as running:
            yield running
    finally:
        await portraits.aclose()


def text(photo):
    return base64.b64encode(photo).decode()


async def sent(api, photo, headers=None, name="photo.jpg"):
    """The answer to a photo sent as a file."""
    headers = headers or (await api.account())[1]
    return await api.http.post(UPLOAD, files={"file": (name, photo)}, headers=headers)


async def opened(api, url):
    assert url.startswith(BASE_URL)
    answer = await api.http.get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    image = Image.open(io.BytesIO(answer.content))
    assert image.format == "JPEG"
    return image


def differs(one, other):
    """Mean difference of two pictures at a small size, 0 to 255."""
    one, other = (np.asarray(i.convert("RGB").resize((64, 64)), float) for i in (one, other))
    return float(np.abs(one - other).mean())


# Three ways in


async def test_a_file_becomes_an_avatar_with_a_preview_and_an_aligned_image(api):
    _, headers = await api.account()
    answer = await sent(api, GOOD, headers)
    assert answer.status_code == 200
    body = answer.json()
    assert sorted(body) == ["avatar_id", "image_url", "preview_url", "success"]
    assert body["success"] is True
    assert body["preview_url"].startswith(
        f"{BASE_URL}/media/avatars/{body['avatar_id']}/preview?exp="
    )
    assert (await opened(api, body["preview_url"])).size == (500, 500)
    image = await opened(api, body["image_url"])
    assert image.size == (1200, 900)
    listed = (await api.http.get("/v1/avatars", headers=headers)).json()
    assert [avatar["avatar_id"] for avatar in listed["my_avatars"]] == [body["avatar_id"]]


async def test_every_way_in_leads_to_the_same_avatar(api, site):
    _, headers = await api.account()
    url = "http://photos.test/portrait.jpg"
    ways = [
        {"files": {"file": ("a.jpg", GOOD)}},
        {"json": {"image_url": url}},
        {"json": {"image_base64": text(GOOD)}},
        {"json": {"image_base64": "data:image/jpeg;base64," + text(GOOD), "image_url": None}},
        {"files": {"image_url": (None, url)}},
        {"files": {"image_base64": (None, text(GOOD))}},
        {"files": {"image_base64": ("photo.txt", text(GOOD))}},
        {"data": {"image_url": url}},
        # A browser's form: an input for a file that nobody filled.
        {"files": {"file": ("", b""), "image_url": (None, url), "note": (None, "x")}},
    ]
    ids = set()
    for way in ways:
        answer = await api.http.post(UPLOAD, headers=headers, **way)
        assert answer.status_code == 200, answer.text
        ids.add(answer.json()["avatar_id"])
    assert len(ids) == 1


@pytest.mark.parametrize(("kind", "ratio"), [("4:3", 4 / 3), ("3:4", 3 / 4), ("1:1", 1.0)])
async def test_the_photo_s_shape_chooses_the_orientation(api, kind, ratio):
    # Parts of one photo, all with the whole head in them.
    box = {"4:3": (0, 0, 1536, 1280), "3:4": (350, 100, 1190, 1280), "1:1": (200, 130, 1340, 1270)}
    account, headers = await api.account()
    part = photos.portrait().crop(box[kind])
    part.thumbnail((700, 700))
    body = (await sent(api, photos.encoded(part), headers)).json()
    image = await opened(api, body["image_url"])
    assert abs(image.width / image.height - ratio) < 0.01
    assert image.width <= 1200
    (avatar,) = await api.store.avatars_of(account.id)
    assert avatar.ratio == kind


async def test_formats_and_their_oddities_show_the_same_face(api):
    _, headers = await api.account()
    small = photos.portrait().resize((576, 480))
    first = await sent(api, photos.encoded(small), headers)
    plain = await opened(api, first.json()["preview_url"])
    cut_out = small.convert("RGBA")
    alpha = np.full((480, 576), 255, np.uint8)
    alpha[:, :80] = 0
    cut_out.putalpha(Image.fromarray(alpha))
    animated = photos.encoded(
        small, "GIF", save_all=True, append_images=[Image.new("RGB", small.size)]
    )
    for photo in (
        photos.encoded(small, "PNG", compress_level=1),
        photos.encoded(small, "WEBP", quality=90),
        photos.encoded(cut_out, "PNG", compress_level=1),
        animated,
        photos.lying(),
        # A JPEG that is also the beginning of something else counts as what its first bytes say.
        GOOD + b"PK\x03\x04<script>alert(1)</script>",
    ):
        answer = await sent(api, photo, headers)
        assert answer.status_code == 200, answer.text
        assert differs(await opened(api, answer.json()["preview_url"]), plain) < 12
    listed = (await api.http.get("/v1/avatars", headers=headers)).json()["my_avatars"]
    # Nothing but pixels is handed out: no EXIF, no appended script.
    answer = await api.http.get(listed[0]["image_url"])
    assert b"<script>" not in answer.content
    assert not Image.open(io.BytesIO(answer.content)).getexif()


# What is refused, and what is said


@pytest.mark.parametrize(
    ("photo", "status", "code", "message", "suggestion"),
    [
        (photos.nobody, 400, "NO_FACE", "No face detected", "head-and-shoulders"),
        (photos.two_faces, 400, "MULTIPLE_FACES", "More than one face detected: 2", "one person"),
        (photos.far_away, 400, "FACE_TOO_SMALL", "Face is too small in the image: ", "closer"),
        (photos.turned, 400, "FACE_NOT_FRONTAL", "it leans by 9", "upright"),
        (photos.blurred, 400, "FACE_BLURRED", "Face is blurred", "in focus"),
        (photos.small, 400, "IMAGE_TOO_SMALL", "short side under 256 px): it has 288x240", "256"),
        (photos.bomb, 413, "IMAGE_TOO_LARGE", "over 50 megapixels", "Scale it down"),
        (lambda: photos.bomb(8000, 6300), 413, "IMAGE_TOO_LARGE", "8000x6300 = 50", "Scale"),
        (lambda: photos.bomb(600, 600), 400, "INVALID_IMAGE", "could not be decoded", "whole"),
        (lambda: GOOD[:60_000], 400, "INVALID_IMAGE", "could not be decoded", "whole"),
        (lambda: GOOD[:300], 400, "INVALID_IMAGE", "could not be decoded", "whole"),
        (lambda: b"", 400, "INVALID_IMAGE", "it is empty", "whole"),
        (lambda: b"\xff\xd8\xff" + bytes(500), 400, "INVALID_IMAGE", "could not be", "whole"),
        (lambda: b"%PDF-1.7 " + GOOD, 400, "UNSUPPORTED_IMAGE_TYPE", "Unsupported", "Use JPEG"),
        (lambda: b"<svg/>" * 99, 400, "UNSUPPORTED_IMAGE_TYPE", "Unsupported image format", "PNG"),
        (lambda: GOOD + bytes(10 * 2**20), 413, "IMAGE_TOO_LARGE", "larger than 10 MB: it", "2000"),
    ],
)
async def test_photos_that_cannot_talk(api, photo, status, code, message, suggestion):
    account, headers = await api.account()
    answer = await sent(api, photo(), headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert message in error["message"]
    assert suggestion in error["suggestion"]
    assert answer.json()["success"] is False
    assert await api.store.avatars_of(account.id) == []


@pytest.mark.parametrize(
    ("request_", "status", "code", "message"),
    [
        ({}, 400, "IMAGE_REQUIRED", "An image is required"),
        ({"json": {}}, 400, "IMAGE_REQUIRED", "An image is required"),
        ({"json": {"image_url": ""}}, 400, "IMAGE_REQUIRED", "An image is required"),
        ({"json": {"file": "x"}}, 400, "IMAGE_REQUIRED", "An image is required"),
        ({"files": {"other": ("a.jpg", b"x")}}, 400, "IMAGE_REQUIRED", "An image is required"),
        ({"files": {"file": (None, "text")}}, 400, "IMAGE_REQUIRED", "An image is required"),
        (
            {"json": {"image_url": "http://photos.test/x", "image_base64": "AAAA"}},
            400,
            "MULTIPLE_IMAGE_SOURCES",
            "Provide only one image source",
        ),
        (
            {"files": [("file", ("a", b"x")), ("file", ("b", b"y"))]},
            400,
            "MULTIPLE_IMAGE_SOURCES",
            "Provide only one image source",
        ),
        ({"json": {"image_base64": "*"}}, 400, "INVALID_BASE64", "Invalid base64 image"),
        ({"json": {"image_base64": 5}}, 400, "INVALID_BASE64", "must be a string"),
        ({"json": {"image_base64": "AAAA"}}, 400, "UNSUPPORTED_IMAGE_TYPE", "Unsupported image"),
        (
            {"json": {"image_url": "http://photos.test/absent"}},
            400,
            "IMAGE_URL_UNREACHABLE",
            "could not be fetched: it answered with status 404",
        ),
        (
            {"json": {"image_url": "http://169.254.169.254/latest"}},
            400,
            "IMAGE_URL_NOT_ALLOWED",
            "Image URL is not allowed",
        ),
        ({"json": {"image_url": ["x"]}}, 400, "IMAGE_URL_NOT_ALLOWED", "must be a string"),
        (
            {"json": {"image_url": "http://photos.test/page.html"}},
            400,
            "UNSUPPORTED_IMAGE_TYPE",
            "Unsupported image format",
        ),
        ({"content": b"{"}, 400, "INVALID_JSON", "Request body is not valid JSON"),
        ({"content": b"[" * 100_000}, 400, "INVALID_JSON", "Request body is not valid JSON"),
        ({"json": []}, 400, "INVALID_BODY", "Request body must be a JSON object"),
        (
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "INVALID_BODY",
            "",
        ),
        (
            {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            400,
            "INVALID_BODY",
            "",
        ),
        ({"content": bytes(15 * 2**20 + 1)}, 413, "PAYLOAD_TOO_LARGE", "Request body is too large"),
    ],
)
async def test_requests_that_cannot_be_answered(api, request_, status, code, message):
    _, headers = await api.account()
    headers |= request_.pop("headers", {})
    answer = await api.http.post(UPLOAD, headers=headers, **request_)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert message in error["message"]


async def test_a_body_without_a_length_is_bounded_too(api):
    _, headers = await api.account()
    given = 0

    async def endless():
        nonlocal given
        while True:
            given += 65536
            yield b" " * 65536

    answer = await api.http.post(UPLOAD, headers=headers, content=endless())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert given < 16 * 2**20


async def test_the_plan_s_number_and_the_free_plan(api):
    account, headers = await api.account("free")
    answer = await sent(api, GOOD, headers)
    assert answer.status_code == 403
    assert answer.json()["error"] == {
        "code": "AVATAR_LIMIT_REACHED",
        "message": "Custom avatars are not available on your plan",
        "suggestion": "Upgrade your plan",
        "details": {"avatars": {"limit": 0, "used": 0, "remaining": 0}},
    }
    assert await api.store.avatars_of(account.id) == []


# List and delete


async def test_the_list_is_what_the_documents_say(api):
    await api.avatars.seed_public()
    for avatar_id in PUBLIC:
        await api.avatars._catalogue.ready(avatar_id, timeout_s=None)
    account, headers = await api.account()
    made = []
    for shift in (0, 40):
        photo = photos.encoded(photos.portrait().resize((640, 533)).crop((shift, 0, 640, 533)))
        made.append((await sent(api, photo, headers)).json()["avatar_id"])
        api.clock.advance(1)
    body = (await api.http.get("/v1/avatars", headers=headers)).json()
    assert sorted(body) == ["my_avatars", "public_avatars", "success"]
    assert [avatar["avatar_id"] for avatar in body["my_avatars"]] == made[::-1]
    mine, *public = body["my_avatars"][0], *body["public_avatars"]
    assert sorted(mine) == ["avatar_id", "created_at", "image_url", "preview_url", "tags"]
    assert mine["tags"] == ["user_exclusive", f"user_{account.id}"]
    assert mine["created_at"].endswith("Z")
    assert [avatar["avatar_id"] for avatar in public] == [
        "PUBLIC/Avatars/anna",
        "PUBLIC/Avatars/mark",
        "PUBLIC/Avatars/rosa",
        "PUBLIC/Avatars/sam",
    ]
    for avatar in public:
        assert sorted(avatar) == [
            "avatar_id", "created_at", "image_url", "name", "preview_url", "tags",
        ]  # fmt: skip
        width, height = (await opened(api, avatar["image_url"])).size
        assert width == height > 900
        assert (await opened(api, avatar["preview_url"])).size == (500, 500)


async def test_only_the_owner_sees_and_deletes(api):
    _, headers = await api.account()
    _, foreign = await api.account()
    body = (await sent(api, GOOD, headers)).json()
    path = f"/v1/avatars/{body['avatar_id']}"
    assert (await api.http.get("/v1/avatars", headers=foreign)).json()["my_avatars"] == []
    answer = await api.http.delete(path, headers=foreign)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "AVATAR_NOT_FOUND")
    answer = await api.http.delete(path, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    answer = await api.http.delete(path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "AVATAR_NOT_FOUND")
    assert (await api.http.get("/v1/avatars", headers=headers)).json()["my_avatars"] == []
    assert (await api.http.get(body["image_url"])).status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("PUBLIC/Avatars/anna", 403, "AVATAR_ACCESS_DENIED"),
        ("PUBLIC%2FAvatars%2Fanna", 403, "AVATAR_ACCESS_DENIED"),
        ("PUBLIC/Avatars/nobody", 404, "AVATAR_NOT_FOUND"),
        ("avat_1", 404, "AVATAR_NOT_FOUND"),
        ("%00", 404, "AVATAR_NOT_FOUND"),
        ("..%2F..%2Fetc", 404, "AVATAR_NOT_FOUND"),
        ("x" * 3000, 404, "AVATAR_NOT_FOUND"),
        ("", 404, "AVATAR_NOT_FOUND"),
    ],
)
async def test_ids_with_slashes_and_ids_of_nobody(api, path, status, code):
    await api.avatars.seed_public()
    _, headers = await api.account()
    answer = await api.http.delete(f"/v1/avatars/{path}", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", UPLOAD), ("GET", "/v1/avatars"), ("DELETE", "/v1/avatars/x")]
)
async def test_nothing_without_a_key(api, method, path):
    answer = await api.http.request(method, path)
    assert (answer.status_code, answer.json()) == (401, {"error": "API key required"})


# While a photo is examined


async def test_other_requests_do_not_wait_for_a_photo(api):
    _, headers = await api.account()
    large = photos.portrait().resize((3000, 2500))
    photo = photos.encoded(large, quality=80)
    uploading = asyncio.create_task(sent(api, photo, headers))
    took = []
    while not uploading.done():
        began = time.perf_counter()
        assert (await api.http.get("/v1/avatars", headers=headers)).status_code == 200
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.005)
    assert (await uploading).status_code == 200
    took.sort()
    # The photo takes much longer. Most answers come in a few ms; how many depends on
    # what else the machine does.
    assert took[len(took) // 2] < 0.1, took[-5:]
    assert len(took) > 5
