from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from models.face import PortraitError, load_photo
from models.face.photo import WORK_SIDE

RED, BLUE = (200, 30, 40), (20, 40, 210)


def picture(width: int = 320, height: int = 400) -> Image.Image:
    """Red above, blue below."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (0, height // 2, width, height))
    return image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def near(pixel: np.ndarray, colour: tuple[int, int, int], by: int = 14) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= by)


def refusal(data) -> PortraitError:
    with pytest.raises(PortraitError) as caught:
        load_photo(data)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("GIF", "P"),
        ("WEBP", "RGB"),
    ],
)
def test_formats_and_colour_modes(kind, mode):
    rgb = load_photo(encoded(picture().convert(mode), kind))
    assert rgb.shape == (400, 320, 3)
    assert rgb.dtype == np.uint8
    assert near(rgb[50, 160], RED, 30)
    assert near(rgb[350, 160], BLUE, 30)


def test_grey():
    rgb = load_photo(encoded(picture().convert("L"), "PNG"))
    assert rgb.shape == (400, 320, 3)
    assert (rgb[..., 0] == rgb[..., 2]).all()


def test_sixteen_bits_keep_their_brightness():
    ramp = np.tile(np.linspace(0, 65535, 300).astype(np.uint16), (300, 1))
    rgb = load_photo(encoded(Image.fromarray(ramp), "PNG"))
    assert near(rgb[10, 0], (0, 0, 0), 2)
    assert near(rgb[10, 150], (128, 128, 128), 2)
    assert near(rgb[10, 299], (255, 255, 255), 2)


def test_exif_orientation_turns_the_photo_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = picture().transpose(Image.Transpose.ROTATE_90)
    rgb = load_photo(encoded(lying, "JPEG", exif=exif))
    assert rgb.shape == (400, 320, 3)
    assert near(rgb[20, 160], RED)
    assert near(rgb[380, 160], BLUE)


def test_damaged_exif_is_ignored():
    rgb = load_photo(encoded(picture(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff"))
    assert rgb.shape == (400, 320, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_becomes_white(kind):
    image = picture().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert near(load_photo(encoded(image, kind))[200, 160], (255, 255, 255), 2)


def test_half_transparent_is_half_white():
    image = Image.new("RGBA", (300, 300), (0, 0, 0, 128))
    assert near(load_photo(encoded(image, "PNG"))[9, 9], (127, 127, 127), 3)


def test_a_transparent_palette_entry_becomes_white():
    image = Image.new("P", (300, 300), 0)
    image.putpalette([200, 30, 40, 20, 40, 210])
    image.paste(1, (0, 0, 300, 150))
    rgb = load_photo(encoded(image, "PNG", transparency=0))
    assert near(rgb[10, 10], BLUE, 2)
    assert near(rgb[290, 10], (255, 255, 255), 2)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_of_animations_the_first_frame(kind):
    frames = [Image.new("RGB", (300, 300), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    assert near(load_photo(data)[150, 150], RED)


def test_a_colour_profile_is_converted_to_srgb():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = load_photo(encoded(picture(), "PNG", icc_profile=srgb))
    assert near(same[50, 160], RED, 2)
    assert load_photo(encoded(picture(), "PNG", icc_profile=b"no profile")).shape == (400, 320, 3)


def test_huge_photos_are_scaled_down():
    rgb = load_photo(encoded(picture(4200, 6300), "JPEG"))
    assert max(rgb.shape) <= WORK_SIDE
    assert rgb.shape[0] / rgb.shape[1] == pytest.approx(1.5, abs=0.01)
    assert near(rgb[100, 100], RED)


def test_a_path_is_read_and_a_missing_one_is_named(tmp_path):
    path = tmp_path / "me.png"
    path.write_bytes(encoded(picture(), "PNG"))
    assert load_photo(path).shape == (400, 320, 3)
    error = refusal(tmp_path / "nobody.png")
    assert error.code == "INVALID_IMAGE"
    assert "nobody.png" in str(error)


@pytest.mark.parametrize(
    "data", [encoded(picture(), "BMP"), encoded(picture(), "TIFF"), b"<svg></svg>", b"%PDF-1.4"]
)
def test_other_formats_are_refused_by_their_first_bytes(data):
    assert refusal(data).code == "UNSUPPORTED_IMAGE_TYPE"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_truncated_files_are_refused(kind, share, photo):
    data = encoded(Image.fromarray(photo[:400, :400]), kind)
    error = refusal(data[: int(len(data) * share)])
    assert error.code == "INVALID_IMAGE"
    assert error.remedy.endswith(".")


def test_nothing_and_garbage_are_refused():
    assert refusal(b"").code == "INVALID_IMAGE"
    noise = np.random.default_rng(0).bytes(5000)
    for magic in (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 "):
        assert refusal(magic + noise).code == "INVALID_IMAGE"


def test_small_photos_are_refused_with_their_size():
    error = refusal(encoded(picture(255, 900), "PNG"))
    assert error.code == "IMAGE_TOO_SMALL"
    assert "255x900" in error.message
    assert load_photo(encoded(picture(256, 256), "PNG")).shape == (256, 256, 3)


def test_too_many_bytes_are_refused(tmp_path):
    data = encoded(picture(), "PNG") + bytes(10 * 1024 * 1024)
    assert refusal(data).code == "IMAGE_TOO_LARGE"
    (tmp_path / "big.png").write_bytes(data)
    assert refusal(tmp_path / "big.png").code == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize(("width", "height"), [(8000, 6300), (20000, 20000), (60000, 60000)])
def test_too_many_pixels_are_refused_without_decoding(width, height):
    # Pixels that cannot be decoded: trying to would end in INVALID_IMAGE.
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    check = struct.pack(">I", zlib.crc32(header))
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + check
    error = refusal(data + struct.pack(">I", 64) + b"IDAT" + bytes(80))
    assert error.code == "IMAGE_TOO_LARGE"
    assert "megapixels" in error.message
