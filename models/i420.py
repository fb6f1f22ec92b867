"""Colour pictures as I420: the one place that knows the matrix, the range and the siting.

I420 here is YUV 4:2:0 in limited range (luma 16 to 235, chroma 16 to 240) with the BT.601 matrix,
what WebRTC and H.264 decoders assume for pictures that say nothing else. A chroma sample is the
mean of its 2 x 2 pixels. A picture is tightly packed: the luma plane, then U, then V, as one uint8
array of shape (height * 3 / 2, width).
"""

from __future__ import annotations

import numpy as np

# ITU-R BT.601-7, table 3: the matrix scaled to 219 (luma) and 224 (chroma) steps for 8-bit RGB.
RGB_TO_YUV = (
    np.array(
        [
            [65.481, 128.553, 24.966],
            [-37.797, -74.203, 112.0],
            [112.0, -93.786, -18.214],
        ],
        np.float32,
    )
    / 255.0
)
"""Rows Y, U, V; columns R, G, B, all 0 to 255."""
OFFSET = np.array([16.0, 128.0, 128.0], np.float32)
"""Y, U and V of black."""
YUV_TO_RGB = np.linalg.inv(RGB_TO_YUV.astype(np.float64)).astype(np.float32)


def rgb_to_yuv(rgb: np.ndarray) -> np.ndarray:
    """YUV 4:4:4 in limited range: float32, same shape as ``rgb`` ((..., 3), 0 to 255)."""
    return rgb.astype(np.float32) @ RGB_TO_YUV.T + OFFSET


def yuv_to_rgb(yuv: np.ndarray) -> np.ndarray:
    """The reverse of :func:`rgb_to_yuv`, not clipped: float32 (..., 3)."""
    return (yuv.astype(np.float32) - OFFSET) @ YUV_TO_RGB.T


def rgb_to_i420(rgb: np.ndarray) -> np.ndarray:
    """Convert uint8 RGB (height, width, 3) to I420, uint8 (height * 3 / 2, width).

    Raises:
        ValueError: ``rgb`` is not (height, width, 3) with even sides.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[0] % 2 or rgb.shape[1] % 2:
        raise ValueError(f"I420 needs an RGB picture with even sides, not shape {rgb.shape}")
    height, width = rgb.shape[:2]
    yuv = rgb_to_yuv(rgb)
    rows = yuv[0::2, :, 1:] + yuv[1::2, :, 1:]
    chroma = (rows[:, 0::2] + rows[:, 1::2]) / 4
    out = np.empty(height * width * 3 // 2, np.uint8)
    out[: height * width] = _to_bytes(yuv[:, :, 0]).ravel()
    out[height * width :] = _to_bytes(chroma.transpose(2, 0, 1)).ravel()
    return out.reshape(height * 3 // 2, width)


def i420_to_rgb(i420: np.ndarray) -> np.ndarray:
    """Convert I420, uint8 (height * 3 / 2, width), to uint8 RGB (height, width, 3).

    Chroma samples are repeated, which makes flat 2 x 2 blocks survive the way there and back.

    Raises:
        ValueError: the shape cannot be an I420 picture's.
    """
    if i420.ndim != 2 or i420.shape[0] % 3 or i420.shape[1] % 2:
        raise ValueError(f"not an I420 picture: shape {i420.shape}")
    height, width = i420.shape[0] * 2 // 3, i420.shape[1]
    flat = i420.ravel()
    yuv = np.empty((height, width, 3), np.float32)
    yuv[:, :, 0] = flat[: height * width].reshape(height, width)
    chroma = flat[height * width :].reshape(2, height // 2, width // 2)
    yuv[:, :, 1:] = chroma.repeat(2, 1).repeat(2, 2).transpose(1, 2, 0)
    return _to_bytes(yuv_to_rgb(yuv))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
