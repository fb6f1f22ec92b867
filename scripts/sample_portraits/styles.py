"""Hair styles: direction fields for ``groom.grow``."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scripts.sample_portraits.groom import Shell, children, grow, norm, smooth_noise
from scripts.sample_portraits.shading import smoothstep


@dataclass(frozen=True)
class Head:
    """What a style grows hair on."""

    rng: np.random.Generator
    roots: np.ndarray
    normals: np.ndarray
    """Of every strand: (n, 3), metres."""
    eye_height: float
    shell: Shell
    """Head and clothes, which strands do not enter."""
    settings: dict
    sample: Callable[[int], tuple[np.ndarray, np.ndarray]]
    """Roots and normals of so many guides."""


def clear_face(p, eye_height, half_width, z_low=-0.16, z_high=0.075):
    """Push strands that hang before the face sideways."""
    rel = p[..., 2] - eye_height
    level = smoothstep(z_low - 0.05, z_low + 0.02, rel) * (
        1 - smoothstep(z_high - 0.02, z_high + 0.03, rel)
    )
    limit = half_width * level * smoothstep(-0.045, -0.075, p[..., 1])
    x = p[..., 0]
    side = np.where(x >= 0, 1, -1)
    p[..., 0] = np.where(np.abs(x) < limit, side * (limit + (np.abs(x) - limit) * 0.12), x)
    return p


def vec(x, y, z, like):
    """A direction per strand from numbers or columns."""
    return np.concatenate([np.broadcast_to(c, like.shape) for c in (x, y, z)], 1).astype(float)


def turbulence(p, size, seed):
    """The same smooth vector noise at every call."""
    return smooth_noise(np.random.default_rng(seed), p, size)


def comb(
    head,
    guides,
    segments,
    part,
    length,
    start,
    field,
    gravity,
    stiffness,
    lift,
    attract=0.0,
    z_floor=-9,
    **kw,
):
    """Grow guides on both sides of the parting and fill in the strands between them."""
    rng = head.rng
    root, normal = head.sample(guides)

    def side_of(p):
        return np.where(p[:, 0] > part(p), 1, -1)

    guide_side, strand_side = side_of(root), side_of(head.roots)
    side = guide_side[:, None].astype(float)
    if head.settings.get("nopart"):
        side = np.clip(root[:, :1] / 0.045, -1, 1)
        guide_side, strand_side = guide_side * 0, strand_side * 0
    lifts = lift(root, rng)
    grown = grow(
        root,
        normal,
        start(root, normal, side),
        length(root, rng),
        segments,
        head.shell,
        lambda p, t: field(p, side),
        gravity,
        stiffness,
        lifts,
        attract,
        z_floor,
    )
    return children(rng, head.roots, grown, root, guide_side, strand_side, **kw)


def woman_long(head):
    """Shoulder-long, parted, falling behind the cheeks."""
    c, z0 = head.settings, head.eye_height
    full = c.get("length", 0.33)

    def start(p, n, s):
        up = smoothstep(z0 + 0.03, z0 + 0.11, p[:, 2:3])
        front = smoothstep(-0.02, -0.09, p[:, 1:2])
        return (
            n * 0.38
            + up * vec(s * 0.9, 0.40, 0.05, s)
            + front * np.array([0, 0.45, 0.22])
            + (1 - up) * np.array([0, 0.30, -0.7])
        )

    def field(p, s):
        a = smoothstep(z0 + 0.09, z0 - 0.01, p[:, 2:3])
        w = vec(s * 0.85, 0.42, -0.35, s) * (1 - a) + vec(s * 0.05, 0.10, -1, s) * a
        w = w + smoothstep(z0 - 0.12, z0 - 0.22, p[:, 2:3]) * vec(-s * 0.35, -0.25, 0, s)
        return norm(w + 0.22 * turbulence(p, 0.05, 5) + 0.12 * turbulence(p, 0.02, 6))

    out = comb(
        head,
        2600,
        40,
        lambda p: -0.022 + 0.01 * (p[:, 1] + 0.05),
        lambda p, r: (
            full * (0.82 + 0.2 * r.random(len(p))) + 0.35 * (p[:, 2] - z0 - 0.05).clip(-0.1, 0.1)
        ),
        start,
        field,
        0.16,
        0.74,
        lambda p, r: 0.003 + c.get("vol", 0.012) * r.random(len(p)),
        attract=0.5,
        z_floor=z0 - 0.10,
        clump=0.55,
        coarse_share=0.35,
        frizz=0.0016,
        neighbours=3,
        uneven=0.12,
    )
    return clear_face(out, z0, 0.066, z_high=0.025)


def man_short(head):
    """Short sides, longer top combed to one side."""
    c, z0 = head.settings, head.eye_height

    def top(p):
        return smoothstep(z0 + 0.045, z0 + 0.105, p[:, 2] - 0.25 * np.abs(p[:, 0]))

    def length(p, r):
        return (c["lo"] + (c["hi"] - c["lo"]) * top(p)) * (0.85 + 0.3 * r.random(len(p)))

    def start(p, n, s):
        t = top(p)[:, None]
        front = smoothstep(-0.03, -0.09, p[:, 1:2])
        return (
            n * (0.40 + 0.15 * t + 0.25 * front * t)
            + t * np.array([-0.80, 0.55, 0.10])
            + (1 - t) * np.array([0, 0.45, -0.75])
        )

    def field(p, s):
        t = top(p)[:, None]
        w = t * np.array([-0.8, 0.55, -0.05]) + (1 - t) * np.array([0, 0.4, -0.9])
        return norm(w + 0.35 * turbulence(p, 0.03, 3) + 0.25 * turbulence(p, 0.012, 4))

    return comb(
        head,
        3000,
        14,
        lambda p: 9 + p[:, 0] * 0,
        length,
        start,
        field,
        0.14,
        0.76,
        lambda p, r: 0.0012 + c.get("vol", 0.012) * r.random(len(p)) * top(p),
        attract=0.5,
        clump=0.45,
        coarse_share=0.5,
        frizz=0.0012,
        neighbours=3,
        uneven=0.35,
    )


def short_wavy(head):
    """Short, brushed back, with a soft wave."""
    c, z0 = head.settings, head.eye_height
    full = c.get("length", 0.13)

    def start(p, n, s):
        up = smoothstep(z0 + 0.03, z0 + 0.11, p[:, 2:3])
        front = smoothstep(-0.03, -0.09, p[:, 1:2])
        return (
            n * 0.45
            + up * vec(s * 0.38, 0.55, 0.12, s)
            + front * np.array([0, 0.6, 0.22])
            + (1 - up) * np.array([0, 0.5, -0.35])
        )

    def field(p, s):
        a = smoothstep(z0 + 0.09, z0, p[:, 2:3])
        w = vec(s * 0.55, 0.75, -0.22, s) * (1 - a) + vec(0, 0.35, -1, s) * a
        w = w + smoothstep(z0 - 0.03, z0 - 0.10, p[:, 2:3]) * vec(-s * 0.6, 0, 0, s)
        return norm(w + 0.35 * turbulence(p, 0.04, 5) + 0.2 * turbulence(p, 0.016, 6))

    out = comb(
        head,
        2600,
        30,
        lambda p: 0.02 + 0.01 * (p[:, 1] + 0.05),
        lambda p, r: (
            full
            * (0.75 + 0.3 * r.random(len(p)))
            * (0.62 + 0.38 * smoothstep(z0 - 0.03, z0 + 0.08, p[:, 2]))
        ),
        start,
        field,
        0.10,
        0.80,
        lambda p, r: (
            0.003
            + c.get("vol", 0.017) * r.random(len(p)) * smoothstep(z0 - 0.08, z0 + 0.06, p[:, 2])
        ),
        attract=0.4,
        z_floor=z0 - 0.12,
        clump=0.55,
        coarse_share=0.3,
        frizz=0.002,
        neighbours=3,
        uneven=0.2,
        wave=(0.0028, 2.2),
    )
    out = out[out[..., 2].min(1) > z0 - 0.085]  # nothing hangs beside the neck
    return clear_face(out, z0, 0.068, z_low=-0.14, z_high=0.02)


def crop_coil(head):
    """A close crop of small coils."""
    c, z0, rng = head.settings, head.eye_height, head.rng
    root, normal = head.roots, head.normals
    low, high = c.get("lo", 0.003), c.get("hi", 0.012)
    length = (low + (high - low) * smoothstep(z0 + 0.02, z0 + 0.10, root[:, 2])) * (
        0.7 + 0.5 * rng.random(len(root))
    )
    t = np.linspace(0, 1, 16)
    d = norm(normal + 0.35 * smooth_noise(rng, root, 0.012) + 0.25 * rng.normal(size=root.shape))
    u = norm(np.cross(d, rng.normal(size=root.shape)))
    v = np.cross(d, u)
    turns = 2.2 * (0.6 + 0.8 * rng.random((len(root), 1)))
    radius = (
        0.0011
        * (0.6 + 0.8 * rng.random((len(root), 1)))
        * np.clip(length / 0.008, 0.15, 1)[:, None]
    )
    phase = 2 * np.pi * turns * t[None]
    return (
        root[:, None]
        - normal[:, None] * 0.0004
        + d[:, None] * (length[:, None] * t[None])[..., None]
        + (radius * (np.cos(phase) - 1))[..., None] * u[:, None]
        + (radius * np.sin(phase))[..., None] * v[:, None]
    )


STYLES = {
    "woman_long": woman_long,
    "man_short": man_short,
    "short_wavy": short_wavy,
    "crop_coil": crop_coil,
}
