import base64

import pytest

from api.avatars.decode import MAX_BYTES, decode_base64
from api.http.errors import ApiError
from models.face import photo

PHOTO = bytes(range(256)) * 10
TEXT = base64.b64encode(PHOTO).decode()


def test_the_limit_is_that_of_the_face_analysis():
    assert MAX_BYTES == photo.MAX_BYTES


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "data:image/jpeg;base64," + TEXT,
        "data:image/png;name=a.png;BASE64," + TEXT,
        TEXT.rstrip("="),
        "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)),
        base64.urlsafe_b64encode(PHOTO).decode(),
        f"  {TEXT}\r\n",
    ],
)
async def test_the_ways_people_write_base64(text):
    assert await decode_base64(text) == PHOTO


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("data:image/jpeg;base64,", "empty"),
        ("data:image/jpeg," + TEXT, "does not say ;base64"),
        ("not base64!", "characters"),
        ("AAAAA", "length"),
        ("AA=A", "characters"),
        ("https://photos.test/photo.jpg", "characters"),
        ("\ud800AAA", "characters"),
        ("ÄÄÄÄ", "characters"),
    ],
)
async def test_what_is_no_base64_is_told(text, said):
    with pytest.raises(ApiError) as caught:
        await decode_base64(text)
    assert (caught.value.status, caught.value.code) == (400, "INVALID_BASE64")
    assert said in caught.value.message
    assert caught.value.suggestion


async def test_ten_megabytes_and_not_a_byte_more():
    assert len(await decode_base64(base64.b64encode(bytes(MAX_BYTES)).decode())) == MAX_BYTES
    for size in (MAX_BYTES + 1, MAX_BYTES + 10_000):
        with pytest.raises(ApiError) as caught:
            await decode_base64(base64.b64encode(bytes(size)).decode())
        assert (caught.value.status, caught.value.code) == (413, "IMAGE_TOO_LARGE")
