"""Procedural skin: colour, relief and roughness painted in UV space, and the shader.

Nothing here reads a photograph. Each texel knows its place on the head, so blotches, freckles,
creases and the hairline follow distances from the landmarks (eyes, nose, mouth, chin) and 3-D
noise, without seams in UV space.
"""

import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree
from scipy import ndimage as ndi

from scripts.sample_portraits.shading import Nodes, float_image, smoothstep


def noise(p, size, seed, octaves=1):
    """Value noise of zero mean and about unit spread at points ``p``; ``size``: grain in metres."""
    total, gain = 0.0, 1.0
    for o in range(octaves):
        table = (
            np.random.default_rng(seed + 77 * o).normal(size=(32, 32, 32)).astype(np.float32) * 1.6
        )
        q = (p / (size / 2**o)).astype(np.float32) + 1000.5
        i = q.astype(np.int32)
        f = q - i
        f = f * f * (3 - 2 * f)
        i &= 31
        j = (i + 1) & 31
        x0, y0, z0, x1, y1, z1 = i[:, 0], i[:, 1], i[:, 2], j[:, 0], j[:, 1], j[:, 2]
        fx, fy, fz = f.T
        low = (table[x0, y0, z0] * (1 - fx) + table[x1, y0, z0] * fx) * (1 - fy) + (
            table[x0, y1, z0] * (1 - fx) + table[x1, y1, z0] * fx
        ) * fy
        high = (table[x0, y0, z1] * (1 - fx) + table[x1, y0, z1] * fx) * (1 - fy) + (
            table[x0, y1, z1] * (1 - fx) + table[x1, y1, z1] * fx
        ) * fy
        total = total + gain * (low * (1 - fz) + high * fz)
        gain *= 0.5
    return total


def openness(human, faces, rays=40, reach=0.02, seed=0):
    """Per-vertex share of rays that leave the skin freely: low in nostrils, folds and ears."""
    rng = np.random.default_rng(seed)
    eyes = [f for s in "lr" for f in (human.faces[i] for i in human.faces_of(f"helper-{s}-eye"))]
    tree = BVHTree.FromPolygons([tuple(p) for p in human.points], faces + eyes)
    normals = np.zeros_like(human.points)
    for f in faces:
        n = np.cross(
            human.points[f[2]] - human.points[f[0]], human.points[f[-1]] - human.points[f[1]]
        )
        normals[f] += n / max(np.linalg.norm(n), 1e-12)
    out = np.ones(len(human.points))
    directions = rng.normal(size=(rays, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for i in sorted({i for f in faces for i in f}):
        if human.points[i, 2] < human.chin[2] - 0.03:
            continue
        n = normals[i] / max(np.linalg.norm(normals[i]), 1e-12)
        free = 0
        for d in directions:
            ray = d + n * 1.02
            free += (
                tree.ray_cast(Vector(human.points[i] + n * 0.0004), Vector(ray), reach)[0] is None
            )
        out[i] = free / rays
    return out


class Regions:
    """Soft masks 0..1 of the parts of the head at points ``p``."""

    def __init__(self, human, settings):
        self.human, self.settings = human, settings

    def coordinates(self, p):
        """abs(x), height above the eyes, and azimuth about the ears' axis, 0 to 180 degrees."""
        x = np.abs(p[:, 0])
        return x, p[:, 2] - self.human.eye_height, np.degrees(np.arctan2(x, -(p[:, 1] + 0.035)))

    def scalp(self, p, ears, soft=0.007):
        """Where the hair of the head grows."""
        _, z, a = self.coordinates(p)
        wob = noise(p, 0.009, 11) * 0.0018 + noise(p, 0.003, 12) * 0.0009
        a = a + noise(p, 0.012, 13) * 1.2
        side = -0.038 if self.settings["sex"] == "m" else -0.012
        dz = self.settings.get("hairline", 0)
        line = np.interp(
            a,
            [0, 18, 32, 44, 53, 61, 68, 77, 86, 92, 104, 118, 135, 180],
            [
                0.076 + dz,
                0.076 + dz,
                0.074 + dz * 0.8,
                0.064 + dz * 0.5,
                0.046,
                0.022,
                side + 0.006,
                side,
                side - 0.002,
                -0.02,
                -0.035,
                -0.06,
                -0.082,
                -0.088,
            ],
        )
        return smoothstep(-soft, soft, z - line + wob) * (1 - smoothstep(0.05, 0.4, ears))

    def beard(self, p, lips):
        """Where a beard would grow: moustache, chin, jaw, the upper neck."""
        _, z, a = self.coordinates(p)
        z = z - (self.human.mouth[2] - self.human.eye_height) + noise(p, 0.012, 21) * 0.002
        top = np.interp(
            a,
            [0, 14, 21, 30, 45, 62, 74, 84, 100],
            [0.017, 0.015, 0.004, -0.006, -0.004, 0.006, 0.030, 0.045, 0.02],
        )
        upper = smoothstep(0.004, -0.006, z - top)
        lower = smoothstep(-0.095, -0.055, z)
        sides = 1 - smoothstep(82, 96, a)
        return upper * lower * sides * (1 - smoothstep(0.02, 0.35, lips))

    def spot_at(self, p, x, z, rx, rz):
        """A soft spot at (+-x, z above the eyes)."""
        ax, az, a = self.coordinates(p)
        return np.exp(-(((ax - x) / rx) ** 2) - ((az - z) / rz) ** 2) * (a < 110)


def rasterize(surface, size, keys):
    """Positions and attributes of every texel of the used part of UV space.

    Returns (rows, columns, 3 + keys) float32, which texels are filled, and the box in UV.
    """
    lo, hi = surface.uv.reshape(-1, 2).min(0), surface.uv.reshape(-1, 2).max(0)
    lo, hi = np.floor(lo * size) - 8, np.ceil(hi * size) + 8
    w, h = (hi - lo).astype(int)
    uv = surface.uv * size - lo
    channels = np.concatenate([surface.verts] + [surface.attr[k][:, None] for k in keys], 1).astype(
        np.float32
    )
    out = np.zeros((h, w, channels.shape[1]), np.float32)
    filled = np.zeros((h, w), bool)
    start = np.floor(uv.min(1) - 0.5).astype(int)
    extent = (np.ceil(uv.max(1) + 0.5).astype(int) - start).max(1)
    for s in (8, 16, 32, 64, 128):
        todo = np.where((extent <= s) & (extent > (0 if s == 8 else s // 2)))[0]
        for part in np.array_split(todo, max(1, len(todo) * s * s // 4_000_000)):
            g = (
                np.stack(np.meshgrid(np.arange(s), np.arange(s)), -1).reshape(1, -1, 2)
                + start[part][:, None]
            )
            a, b, c = (uv[part][:, i, None] for i in range(3))
            q = g + 0.5 - a
            e1, e2 = b - a, c - a
            det = e1[..., 0] * e2[..., 1] - e1[..., 1] * e2[..., 0]
            det = np.where(np.abs(det) < 1e-9, 1e-9, det)
            u = (q[..., 0] * e2[..., 1] - q[..., 1] * e2[..., 0]) / det
            v = (e1[..., 0] * q[..., 1] - e1[..., 1] * q[..., 0]) / det
            t, k = np.where((u > -0.02) & (v > -0.02) & (u + v < 1.02))
            u, v, g = u[t, k, None], v[t, k, None], g[t, k]
            f = channels[surface.tris[part[t]]]
            out[g[:, 1], g[:, 0]] = f[:, 0] * (1 - u - v) + f[:, 1] * u + f[:, 2] * v
            filled[g[:, 1], g[:, 0]] = True
    return out, filled, lo / size, hi / size


def groove(points, line, width):
    """Depth 0..1 of a crease along a polyline of (x, z); it fades towards both ends."""
    line = np.asarray(line)
    best, along = np.full(len(points), 1e9), np.zeros(len(points))
    lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
    done = 0
    for a, b, n in zip(line[:-1], line[1:], lengths, strict=True):
        t = np.clip(((points - a) @ (b - a)) / (n * n), 0, 1)
        d = np.linalg.norm(points - a - t[:, None] * (b - a), axis=1)
        nearer = d < best
        best[nearer] = d[nearer]
        along[nearer] = (done + t * n)[nearer] / lengths.sum()
        done += n
    return np.exp(-((best / width) ** 2)) * np.clip(4 * along * (1 - along) + 0.05, 0, 1)


def creases(human, x, z, settings):
    """Height (0 or below) of the age lines of a face at (|x|, height above the eyes)."""
    w = settings.get("wrinkle", 0.2)
    q = np.stack([x, z], 1)
    e = human.eye["l"][0]
    m = human.mouth[2] - human.eye_height
    mw = human.mouth_half_width
    nz = human.nose[2] - human.eye_height
    h = np.zeros(len(x))
    for i, zz in enumerate((0.034, 0.042, 0.050, 0.058)):  # forehead
        h += (0.8 - 0.1 * i) * groove(
            q,
            [
                (-0.012, zz - 0.001),
                (0.010, zz),
                (0.024, zz + 0.0025),
                (0.040, zz + 0.001 * (i % 2)),
                (0.048, zz - 0.004),
            ],
            0.0010,
        )
    for dx, dz, k in (
        (0.017, 0.007, 0.7),
        (0.019, 0.0015, 1.0),
        (0.018, -0.004, 0.9),
        (0.015, -0.009, 0.7),
    ):  # crow's feet
        h += k * groove(
            q,
            [
                (e + 0.0165, 0.0005 + dz * 0.2),
                (e + 0.0165 + dx * 0.55, dz * 0.75),
                (e + 0.0165 + dx, dz * 1.35 - 0.001),
            ],
            0.0008,
        )
    for k, dz in ((0.9, -0.0135), (0.6, -0.018)):  # below the eyes
        h += k * groove(
            q,
            [
                (e - 0.013, dz + 0.003),
                (e - 0.004, dz - 0.001),
                (e + 0.008, dz + 0.001),
                (e + 0.016, dz + 0.006),
            ],
            0.0010,
        )
    h += 0.7 * groove(q, [(0.0055, 0.006), (0.0045, 0.014), (0.0055, 0.022)], 0.0009)  # frown
    h += 0.35 * w * groove(q, [(0.003, 0.001), (0.006, 0.002), (0.009, 0.001)], 0.0008)
    h += 1.5 * groove(
        q,
        [
            (0.0165, nz + 0.004),
            (0.0225, nz - 0.008),
            (mw + 0.006, m + 0.008),
            (mw + 0.0105, m - 0.006),
        ],
        0.0017,
    )  # nose to mouth
    h += 0.9 * groove(
        q, [(mw + 0.002, m - 0.003), (mw + 0.004, m - 0.012), (mw + 0.003, m - 0.021)], 0.0013
    )  # marionette
    h += 0.8 * groove(
        q, [(-0.01, m - 0.0205), (0.006, m - 0.0205), (0.016, m - 0.0175)], 0.0014
    )  # below the lower lip
    if w > 0.6:  # short lines about the lips
        for i in range(7):
            xx = 0.002 + 0.0034 * i
            h += 0.55 * groove(q, [(xx, m + 0.0095 + 0.0002 * i), (xx * 1.08, m + 0.015)], 0.0005)
            h += 0.35 * groove(q, [(xx, m - 0.0105), (xx * 1.05, m - 0.0155)], 0.0005)
    return -h * w


def spots(shape, filled, rng, points, radius):
    """A map of soft dots at given texels (rows, columns) with radii in texels."""
    out = np.zeros(shape, np.float32)
    for (r, c), rad in zip(points, radius, strict=True):
        k = int(np.ceil(rad * 2.2))
        r0, r1, c0, c1 = (
            max(0, r - k),
            min(shape[0], r + k + 1),
            max(0, c - k),
            min(shape[1], c + k + 1),
        )
        y, x = np.mgrid[r0:r1, c0:c1]
        squeeze = 0.75 + 0.5 * rng.random()
        d = np.hypot((y - r) * squeeze, (x - c) / squeeze) / rad
        out[r0:r1, c0:c1] = np.maximum(
            out[r0:r1, c0:c1], np.exp(-(d**4)) * (0.4 + 0.6 * rng.random())
        )
    return out * filled


class Texels:
    """The texels of the head: where each lies, what of the mesh it belongs to, and noise of five
    grains. Colour is painted by multiplication, ``tint`` by ``tint``."""

    def __init__(self, human, surface, settings, size):
        data, self.filled, low, high = rasterize(surface, size, ("lips", "ears", "lids", "open"))
        self.box = low, high
        self.rows, self.columns = np.where(self.filled)
        self.human, self.settings, self.size = human, settings, size
        self.points = p = data[self.rows, self.columns, :3]
        lips, self.ears, self.lids, self.open = data[self.rows, self.columns, 3:].T
        self.regions = Regions(human, settings)
        self.x, self.z, azimuth = self.regions.coordinates(p)
        self.front = 1 - smoothstep(75, 105, azimuth)
        wobble = 0.10 * noise(p, 0.0016, 31) + 0.05 * noise(p, 0.006, 32)
        self.lips = smoothstep(0.25, 0.75, lips + wobble)
        self.beard = self.regions.beard(p, self.lips)
        self.scalp = self.regions.scalp(p, self.ears)
        self.nose_z = human.nose[2] - human.eye_height
        self.eye_x = human.eye["l"][0]
        self.cheek = self.regions.spot_at(p, self.eye_x + 0.008, self.nose_z + 0.004, 0.022, 0.020)
        self.forehead = self.regions.spot_at(p, 0, 0.048, 0.05, 0.022)
        self.tip = np.exp(-(((p - human.nose) / 0.014) ** 2).sum(1))
        self.chin = np.exp(-(((p - human.chin) / 0.017) ** 2).sum(1))
        self.big, self.middle, self.small, self.fine, self.tiny = (
            noise(p, grain, 40 + i, 1)
            for i, grain in enumerate((0.030, 0.010, 0.0038, 0.0016, 0.0007))
        )
        folds = noise(p * np.array([1, 0.12, 0.12]), 0.00085, 71)
        self.lip_folds = folds + 0.6 * noise(p * np.array([1, 0.25, 0.25]), 0.0019, 72)
        self.color = np.ones((len(p), 3)) * np.array(settings["tone"])

    def tint(self, weight, rgb):
        """Multiply the colour by ``rgb`` where ``weight`` is 1."""
        self.color *= 1 - np.clip(weight, 0, 1)[:, None] * (1 - np.array(rgb))

    def cover(self, weight, rgb):
        """Put ``rgb`` over the colour."""
        weight = weight[:, None]
        self.color = self.color * (1 - weight) + rgb * weight

    def picture(self, values):
        """(height, width, …) of per-texel values, those nearest where there is no skin."""
        nearest = ndi.distance_transform_edt(
            ~self.filled, return_distances=False, return_indices=True
        )
        picture = np.zeros(self.filled.shape + np.shape(values)[1:], np.float32)
        picture[self.rows, self.columns] = values
        return picture[tuple(nearest)][::-1]


def paint_complexion(texels):
    """Blood, thin skin, blotches, veins, and shade in hollows."""
    t, settings = texels, texels.settings
    red = (0.98, 0.74, 0.74) if settings["tone"][0] > 0.25 else (0.98, 0.88, 0.86)
    blood = t.cheek * (0.75 + 0.22 * t.big + 0.2 * t.small) + 0.75 * t.tip
    blood = blood + 0.55 * smoothstep(0.1, 0.6, t.ears) + 0.35 * t.chin
    t.tint(settings.get("flush", 1.0) * blood, red)
    t.tint(0.5 * t.forehead, (1.0, 0.99, 0.90))
    under = np.hypot((t.x - t.eye_x) / 1.15, t.z)
    under = np.exp(-(((under - 0.0165) / 0.0048) ** 2))
    under *= smoothstep(0.001, -0.009, t.z) * t.front
    under *= smoothstep(0.04, 0.02, t.x - t.eye_x + 0.022)
    t.tint(under * settings.get("under_eye", 0.55), (0.84, 0.76, 0.83))
    t.tint(t.lids * 0.55, (0.93, 0.82, 0.82))
    t.color *= np.exp(0.03 * t.big + 0.015 * t.middle)[:, None]
    mottle = np.clip(0.022 * t.middle + 0.024 * t.small + 0.018 * t.fine, -0.25, 0.25)
    mottle = mottle[:, None] * settings.get("mottle", 1.0)
    t.color *= np.exp(mottle * np.array([0.35, 1.1, 1.0]))
    grain = np.clip(0.020 * t.fine + 0.040 * t.tiny, -0.2, 0.2) * settings.get("grain", 1.0)
    t.color *= np.exp(grain)[:, None]
    vein = np.exp(-((noise(t.points, 0.016, 61) / 0.16) ** 2))
    vein *= smoothstep(0.2, 1.2, noise(t.points, 0.05, 62))
    t.tint(0.10 * vein * (1 - t.lips), (0.86, 0.93, 0.97))
    t.tint(smoothstep(0.80, 0.15, t.open) * 0.75, (0.62, 0.46, 0.44))


def paint_spots(texels, rng):
    """Freckles, age spots and moles."""
    t = texels
    nose = np.exp(-((t.x / 0.02) ** 2) - ((t.z - t.nose_z - 0.006) / 0.014) ** 2)
    likely = {
        "freckle": t.cheek * 1.2 + 0.8 * nose + 0.15 * t.forehead + 0.04,
        "age": 0.35 + 0.5 * smoothstep(0.03, 0.055, t.x) + 0.3 * t.forehead,
        "mole": np.full(len(t.points), 0.3),
    }
    per_mm = t.size * 0.00083
    for kind, count, radius_mm, rgb, strength in t.settings.get("spots", ()):
        where = likely[kind] * t.front * (1 - t.lips) * (t.z > -0.14) * (t.lids < 0.2)
        pick = rng.choice(len(t.points), count, p=where / where.sum())
        places = np.stack([t.rows[pick], t.columns[pick]], 1)
        radii = per_mm * radius_mm * (0.45 + 0.9 * rng.random(count) ** 2)
        dots = spots(t.filled.shape, t.filled, rng, places, radii)
        t.tint(dots[t.rows, t.columns] * strength, rgb)


def paint_features(texels):
    """Lips, the shadow of a beard, the scalp below its hair, the lash line."""
    t, settings = texels, texels.settings
    lip_color, opacity = settings["lips"]
    lip = np.exp(0.03 * t.lip_folds + 0.07 * t.small + 0.05 * t.middle)[:, None]
    lip = np.array(lip_color) * lip
    lip *= 1 - 0.22 * smoothstep(0.75, 0.35, t.open)[:, None]  # darker towards the seam
    t.cover(t.lips * opacity, lip)
    stubble = settings.get("beard_shadow", 0) * t.beard
    t.tint(stubble * (0.85 + 0.25 * t.small), (0.70, 0.74, 0.79))
    follicles = smoothstep(0.9, 1.9, noise(t.points, 0.00062, 81))
    t.tint(stubble * follicles, (0.50, 0.50, 0.52))
    root = np.array(settings["hair"].get("root", (0.03, 0.02, 0.012)))
    t.cover(smoothstep(0.15, 1, t.scalp) * settings.get("scalp_dark", 0.5), root)
    for side in "lr":
        distance = np.linalg.norm(t.points - t.human.eye[side], axis=1)
        line = smoothstep(1.10, 1.01, distance / t.human.eye_radius[side])
        t.tint(line * 0.5, (0.62, 0.50, 0.48))


def relief(texels):
    """Height of the skin in 0.1 mm: creases, folds of the lips, unevenness."""
    t = texels
    wobble = noise(t.points, 0.008, 91) * 0.0007
    height = creases(t.human, t.x, t.z + wobble, t.settings) * t.front * 2.6
    height += t.lips * t.lip_folds * 0.24
    uneven = t.settings.get("relief", 1.0) * (0.16 * t.small + 0.14 * t.fine)
    return height + uneven * (1 - t.lips)


def roughness(texels):
    """0..1: less where skin is oily, and on the lips."""
    t = texels
    bridge = np.exp(-((t.x / 0.008) ** 2)) * (t.z < 0.03) * (t.z > t.nose_z)
    oil = 0.8 * t.regions.spot_at(t.points, 0, 0.045, 0.03, 0.02) + t.tip
    oil = oil + 0.6 * bridge + 0.4 * t.chin
    oil = oil + 0.35 * t.regions.spot_at(t.points, t.eye_x + 0.012, -0.022, 0.012, 0.008)
    rough = t.settings.get("rough", 0.48) + 0.035 * t.fine + 0.03 * t.small + 0.02 * t.middle
    rough += -0.09 * np.clip(oil, 0, 1) * t.front - 0.07 * t.lips + 0.06 * t.beard
    return np.clip(rough, 0.15, 0.9)


def paint(human, surface, settings, size, rng):
    """The skin's pictures: colour, relief in 0.1 mm, roughness; and the UV box they cover."""
    texels = Texels(human, surface, settings, size)
    paint_complexion(texels)
    paint_spots(texels, rng)
    paint_features(texels)
    return {
        "color": texels.picture(np.clip(texels.color, 0, 1)),
        "relief": texels.picture(relief(texels)),
        "rough": texels.picture(roughness(texels)),
        "box": texels.box,
    }


def material(maps, settings):
    """The skin's shader: the painted maps, and pores and lines too fine for them as bumps."""
    nodes = Nodes("skin")
    place = nodes.add("TexCoord").outputs["Object"]
    pores = nodes.add("TexVoronoi", {"feature": "F1"}, {"Vector": place, "Scale": 900.0})
    lines = nodes.add(
        "TexVoronoi", {"feature": "DISTANCE_TO_EDGE"}, {"Vector": place, "Scale": 420.0}
    )
    grain = nodes.add("TexNoise", None, {"Vector": place, "Scale": 300.0, "Detail": 5.0})
    broad = nodes.add("TexNoise", None, {"Vector": place, "Scale": 90.0, "Detail": 2.0})
    lines = nodes.add(
        "MapRange", None, {0: lines.outputs["Distance"], 1: 0.0, 2: 0.22, 3: 0.0, 4: 0.35}
    )
    height = nodes.total(
        nodes.scaled(pores.outputs["Distance"], -0.45),
        nodes.scaled(grain, 0.9),
        nodes.scaled(broad, 0.8),
        lines,
        nodes.image(maps["relief"]),
    )
    bump = nodes.add(
        "Bump", None, {"Height": height, "Strength": settings.get("bump", 0.55), "Distance": 0.0006}
    )
    shader = nodes.add(
        "BsdfPrincipled",
        {"subsurface_method": "BURLEY"},
        {
            "Base Color": nodes.image(maps["color"]),
            "Roughness": nodes.image(maps["rough"]).outputs[0],
            "Normal": bump,
            "IOR": 1.4,
            "Subsurface Weight": settings.get("sss", 0.75),
            "Subsurface Scale": settings.get("sss_scale", 0.0034),
            "Subsurface Radius": (1.0, 0.34, 0.18),
            "Specular IOR Level": settings.get("spec", 0.42),
            "Sheen Weight": 0.05,
            "Sheen Roughness": 0.4,
        },
    )
    return nodes.done(shader)


def build(human, ob, surface, settings, size, rng):
    """Paint the skin of ob (whose evaluated form is surface) and give it the material."""
    maps = paint(human, surface, settings, size, rng)
    lo, hi = maps["box"]
    layer = ob.data.uv_layers["UV"].data
    uv = np.empty(len(layer) * 2, np.float32)
    layer.foreach_get("uv", uv)
    uv = (uv.reshape(-1, 2) - lo) / (hi - lo)
    layer.foreach_set("uv", uv.astype(np.float32).ravel())
    pictures = {n: float_image(n, maps[n], n == "color") for n in ("color", "relief", "rough")}
    ob.data.materials.append(material(pictures, settings))
