"""Hair: guide strands that collide with the head, then strands between them in clumps."""

import numpy as np
from scipy.spatial import cKDTree


def norm(a):
    """Unit vectors."""
    return a / np.maximum(np.linalg.norm(a, axis=-1, keepdims=True), 1e-12)


class Shell:
    """A dense point sampling of a triangle mesh, for signed distances."""

    def __init__(self, verts, tris, n, rng):
        a, b, c = verts[tris[:, 0]], verts[tris[:, 1]], verts[tris[:, 2]]
        cross = np.cross(b - a, c - a)
        area = np.linalg.norm(cross, axis=1)
        k = rng.choice(len(tris), n, p=area / area.sum())
        r1, r2 = np.sqrt(rng.random(n)), rng.random(n)
        w = np.stack([1 - r1, r1 * (1 - r2), r1 * r2], 1)
        self.points = a[k] * w[:, :1] + b[k] * w[:, 1:2] + c[k] * w[:, 2:]
        self.normals = norm(cross)[k]
        self.tree = cKDTree(self.points)

    def push(self, q, margin):
        """Points moved out to ``margin``, their signed distance before, and the normals there."""
        d, i = self.tree.query(q, distance_upper_bound=0.08)
        near = np.isfinite(d)
        i = np.where(near, i, 0)
        n = self.normals[i]
        signed = np.where(near, ((q - self.points[i]) * n).sum(1), 0.08)
        out = np.clip(margin - signed, 0, None) * (d < 0.06)
        return q + n * out[:, None], signed, n


def smooth_noise(rng, p, scale, k=24):
    """A smooth vector noise field sampled at points p."""
    w = rng.normal(size=(k, 3)) / scale
    phase = rng.random(k) * 6.283
    a = rng.normal(size=(k, 3)) / np.sqrt(k / 2)
    return np.sin(p @ w.T + phase) @ a


def grow(
    root, normal, start, length, segments, shell, field, gravity, stiffness, lift, attract, z_floor
):
    """Guide strands, (n, segments + 1, 3) in metres.

    ``field(p, t)`` is the direction wanted at a share ``t`` of the length; ``lift`` is each
    strand's height above the skin.
    """
    strand, d, p = [root], norm(start), root.copy()
    step = (length / segments)[:, None]
    for i in range(segments):
        t = (i + 1) / segments
        d = norm(
            stiffness * d + (1 - stiffness) * field(p, t) + np.array([0, 0, -1.0]) * gravity * t
        )
        p = p + d * step
        layer = lift * min(1, t * 4) + 0.0006
        pushed, signed, n = shell.push(p, layer)
        far = np.clip((signed - layer - 0.003) / 0.01, 0, 1)[:, None] * (p[:, 2:3] > z_floor)
        d = norm(d - n * attract * far)  # hair that has flown off comes back to its layer
        d = norm(d + 0.7 * (pushed - p) / step)
        p = pushed
        strand.append(p)
    return np.stack(strand, 1)


def children(
    rng,
    roots,
    guides,
    guide_root,
    guide_side,
    side,
    clump,
    frizz,
    neighbours,
    uneven,
    coarse_share,
    wave=None,
):
    """Strands, (n, points, 3): the mean of the ``neighbours`` nearest guides on the same side.

    Towards the tips they are drawn to a coarser set of guides, a share ``coarse_share`` of all:
    ``clump`` says how much. ``frizz`` and ``wave`` (size, turns) are in metres.
    """
    n, s = len(roots), guides.shape[1]
    out, t = np.empty((n, s, 3)), np.linspace(0, 1, s)
    for one in np.unique(guide_side):
        g, c = np.where(guide_side == one)[0], np.where(side == one)[0]
        if not len(g) or not len(c):
            continue
        d, k = cKDTree(guide_root[g]).query(roots[c], k=neighbours)
        w = 1 / (d + 1e-4) ** 2
        w /= w.sum(1, keepdims=True)
        near = guides[g][k]
        out[c] = roots[c][:, None] + ((near - near[:, :, :1]) * w[:, :, None, None]).sum(1)
        coarse = g[rng.random(len(g)) < coarse_share]
        _, k = cKDTree(guide_root[coarse]).query(roots[c])
        pull = ((clump * (0.4 + 0.9 * rng.random(len(c))))[:, None] * t[None] ** 1.3)[..., None]
        out[c] = out[c] * (1 - pull) + guides[coarse][k] * pull
    # unequal lengths: each strand ends at another share of its path
    u = t[None] * (1 - uneven * rng.random(n) ** 2)[:, None] * (s - 1)
    i = np.minimum(u.astype(int), s - 2)
    f = (u - i)[..., None]
    row = np.arange(n)[:, None]
    out = out[row, i] * (1 - f) + out[row, i + 1] * f
    # frizz: a slow wobble of each strand
    phase, pace = rng.random((n, 1, 3)) * 6.283, 2 + 5 * rng.random((n, 1, 3))
    out = (
        out
        + frizz
        * t[None, :, None] ** 0.8
        * np.sin(pace * t[None, :, None] * 3 + phase)
        * rng.normal(size=(n, 1, 1))
        * 0.7
    )
    if wave:
        size, turns = wave
        angle = 2 * np.pi * turns * t[None] + smooth_noise(rng, roots, 0.03)[:, :1] * 2.5
        u = norm(np.cross(out[:, -1] - out[:, 0], rng.normal(size=3) * 0.3 + np.array([0, 0, 1.0])))
        v = norm(np.cross(u, out[:, -1] - out[:, 0]))
        grown = np.clip(t * 3, 0, 1)[None, :, None]
        out = out + size * grown * (
            np.sin(angle)[..., None] * u[:, None] + np.cos(angle)[..., None] * v[:, None]
        )
    return out
