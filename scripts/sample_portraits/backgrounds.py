"""Defocused backgrounds: simple scenes in linear light, blurred by the shape of an aperture."""

import numpy as np

SATURATION = {"garden": 0.48, "office": 0.6, "cafe": 0.7, "city": 0.65}


def aperture(r, blades=9):
    """A slightly polygonal disc, brighter at its rim."""
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    a = np.arctan2(y, x)
    polygon = np.cos(np.pi / blades) / np.cos((a % (2 * np.pi / blades)) - np.pi / blades)
    k = (np.hypot(x, y) <= r * (0.25 + 0.75 * polygon)).astype(float)
    k *= 0.85 + 0.3 * (np.hypot(x, y) / r) ** 4
    return k / k.sum()


def blur(im, r):
    """Convolve with the aperture (by FFT, edges repeated)."""
    h, w = im.shape[:2]
    pad = 2 * r
    im = np.pad(im, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    kernel = np.zeros(im.shape[:2])
    kernel[: 2 * r + 1, : 2 * r + 1] = aperture(r)
    kernel = np.fft.rfft2(np.roll(kernel, (-r, -r), (0, 1)))
    out = np.stack(
        [np.fft.irfft2(np.fft.rfft2(im[..., c]) * kernel, s=im.shape[:2]) for c in range(3)], -1
    )
    return np.clip(out[pad : pad + h, pad : pad + w], 0, None)


def rect(im, x0, y0, x1, y1, color):
    """Fill a box given in shares of the picture."""
    h, w = im.shape[:2]
    im[int(max(0, y0) * h) : int(max(0, y1) * h), int(max(0, x0) * w) : int(max(0, x1) * w)] = color


def spots(im, rng, n, box, color, size, power):
    """Small bright squares, which the blur turns into discs of light."""
    h, w = im.shape[:2]
    for _ in range(n):
        x = int((box[0] + rng.random() * (box[2] - box[0])) * w)
        y = int((box[1] + rng.random() * (box[3] - box[1])) * h)
        s = max(1, int(size * w * (0.5 + rng.random())))
        c = np.array(color) * (0.4 + rng.random()) * (1 + 0.25 * rng.normal(size=3))
        im[max(0, y - s) : y + s, max(0, x - s) : x + s] = np.abs(c) * power


def garden(im, rng, xx, yy):
    """Foliage with light between the leaves, two trunks."""
    im[:] = np.array([0.10, 0.17, 0.05]) + (1 - yy[..., None]) ** 2 * np.array([0.28, 0.34, 0.20])
    for _ in range(1400):
        x, y, s, g = rng.random(), rng.random() ** 1.1, 0.004 + 0.02 * rng.random(), rng.random()
        rect(
            im,
            x,
            y,
            x + s,
            y + s,
            np.array([0.09 + 0.28 * g, 0.16 + 0.30 * g, 0.03 + 0.07 * g])
            * (0.3 + 1.5 * rng.random() * (1.15 - y)),
        )
    spots(im, rng, 110, (0, 0, 1, 0.5), (1.0, 1.0, 0.78), 0.0035, 4)
    rect(im, 0.06, 0.3, 0.10, 1, (0.05, 0.035, 0.02))
    rect(im, 0.86, 0.1, 0.93, 1, (0.06, 0.045, 0.03))
    return blur(im, 44)


def office(im, rng, xx, yy):
    """Tall windows, a plant, a shelf of books."""
    im[:] = np.array([0.42, 0.41, 0.39]) * (0.72 + 0.5 * (1 - xx[..., None]))
    for i in range(4):
        x = -0.05 + i * 0.2
        rect(im, x, 0.05, x + 0.17, 0.72, np.array([1.0, 1.08, 1.15]) * (1.15 - 0.22 * i))
        rect(im, x + 0.08, 0.05, x + 0.086, 0.72, (0.25, 0.25, 0.25))
    rect(im, 0.78, 0, 1, 1, (0.33, 0.30, 0.27))
    for i in range(5):
        rect(im, 0.80, 0.12 + 0.16 * i, 1, 0.14 + 0.16 * i, (0.14, 0.09, 0.06))
        for k in range(7):
            h = 0.05 + 0.07 * rng.random()
            rect(
                im,
                0.81 + k * 0.026,
                0.12 + 0.16 * (i + 1) - h,
                0.83 + k * 0.026,
                0.12 + 0.16 * (i + 1),
                rng.random(3) * 0.35 + 0.05,
            )
    rect(im, 0, 0.72, 0.78, 1, (0.30, 0.27, 0.24))
    spots(im, rng, 16, (0.02, 0.45, 0.3, 0.75), (0.10, 0.28, 0.08), 0.03, 1)
    return blur(im, 52)


def cafe(im, rng, xx, yy):
    """A warm room with a window, a counter and a row of lamps."""
    im[:] = np.array([0.13, 0.085, 0.055]) + np.exp(-((xx - 0.85) ** 2 + (yy - 0.25) ** 2) / 0.10)[
        ..., None
    ] * np.array([0.42, 0.27, 0.14])
    rect(im, -0.1, 0.05, 0.22, 0.62, (0.55, 0.60, 0.62))
    rect(im, 0.10, 0.05, 0.115, 0.62, (0.1, 0.08, 0.06))
    rect(im, 0.0, 0.70, 1, 0.74, (0.20, 0.12, 0.07))
    rect(im, 0, 0.74, 1, 1, (0.09, 0.055, 0.035))
    for i in range(9):
        rect(
            im,
            0.55 + 0.05 * i,
            0.48 - 0.1 * rng.random(),
            0.58 + 0.05 * i,
            0.70,
            rng.random(3) * np.array([0.3, 0.22, 0.15]),
        )
    for i in range(6):
        x, y = 0.30 + 0.13 * i, 0.10 + 0.05 * (i % 2)
        rect(im, x, y, x + 0.014, y + 0.014, (9, 6, 3.2))
    spots(im, rng, 24, (0.3, 0.25, 1, 0.6), (1.0, 0.62, 0.28), 0.003, 9)
    return blur(im, 46)


def city(im, rng, xx, yy):
    """House fronts under a grey-blue sky."""
    im[:] = (1 - yy[..., None]) * np.array([0.34, 0.42, 0.52]) + yy[..., None] * np.array(
        [0.26, 0.25, 0.25]
    )
    for _ in range(12):
        x, w, t = rng.random() * 1.1 - 0.1, 0.07 + 0.12 * rng.random(), 0.05 + 0.5 * rng.random()
        c = np.array([0.22, 0.21, 0.21]) * (0.5 + 1.1 * rng.random()) * np.array([1.1, 1, 0.92])
        rect(im, x, t, x + w, 0.9, c)
        for _ in range(10):
            wx, wy = x + w * rng.random(), t + (0.9 - t) * rng.random()
            rect(im, wx, wy, wx + 0.012, wy + 0.02, c * (0.3 + 3.2 * rng.random()))
    rect(im, 0, 0.82, 1, 1, (0.20, 0.19, 0.18))
    spots(im, rng, 22, (0, 0.5, 1, 0.8), (1.0, 0.75, 0.45), 0.003, 8)
    return blur(im, 50)


SCENES = {"garden": garden, "office": office, "cafe": cafe, "city": city}


def make(kind, n, seed):
    """The scene as an (n, n, 3) array in linear light, its colours toned down."""
    yy, xx = np.mgrid[0:n, 0:n] / n
    im = SCENES[kind](np.zeros((n, n, 3)), np.random.default_rng(seed), xx, yy)
    grey = im.mean(-1, keepdims=True)
    return grey + SATURATION[kind] * (im - grey)
