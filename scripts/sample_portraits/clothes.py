"""Clothes grown from the body.

The base mesh's own body-suit helper is loosened, gets folds by directed noise, is cut at the neck,
and gets a neckband or a shirt's collar.
"""

import bpy
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree
from scipy import ndimage as ndi
from scipy.sparse import coo_matrix

from scripts.sample_portraits.shading import Nodes, Surface, mesh_object, smoothstep
from scripts.sample_portraits.skin import noise


def adjacency(n, tris):
    """Row-normalised neighbour matrix of a triangle mesh."""
    i = np.concatenate([tris[:, [0, 1]], tris[:, [1, 2]], tris[:, [2, 0]]])
    i = np.concatenate([i, i[:, ::-1]])
    m = coo_matrix((np.ones(len(i)), (i[:, 0], i[:, 1])), (n, n)).tocsr()
    m.data[:] = 1
    return m.multiply(1 / np.maximum(m.sum(1), 1)).tocsr()


def vertex_normals(v, tris):
    """Area-weighted vertex normals."""
    n = np.zeros_like(v)
    c = np.cross(v[tris[:, 1]] - v[tris[:, 0]], v[tris[:, 2]] - v[tris[:, 0]])
    for i in range(3):
        np.add.at(n, tris[:, i], c)
    return n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-12)


def clip(v, tris, f):
    """The part of the mesh where ``f`` (per vertex) is positive; its edge follows f = 0."""
    v, made, out = list(v), {}, []

    def cut(a, b):
        key = (min(a, b), max(a, b))
        if key not in made:
            t = f[a] / (f[a] - f[b])
            made[key] = len(v)
            v.append(v[a] + t * (v[b] - v[a]))
        return made[key]

    for t in tris:
        inside = f[t] > 0
        if inside.all():
            out.append(tuple(t))
        elif inside.any():
            ring = []
            for a, b in zip(t, np.roll(t, -1), strict=True):
                if f[a] > 0:
                    ring.append(a)
                if (f[a] > 0) != (f[b] > 0):
                    ring.append(cut(a, b))
            out += [(ring[0], ring[i], ring[i + 1]) for i in range(1, len(ring) - 1)]
    return np.array(v), np.array(out)


class Neckline:
    """The height of the neck opening as a function of the angle about the neck (0 in front)."""

    def __init__(self, human, settings):
        clavicle = (
            human.points[human.members["joint-l-clavicle"]].mean(0)
            + human.points[human.members["joint-r-clavicle"]].mean(0)
        ) / 2
        self.centre = np.array([0.0, clavicle[1] + settings.get("neck_y", 0.0)])
        self.front = clavicle[2] + settings.get("neck_front", 0.0)
        self.back = clavicle[2] + settings.get("neck_back", 0.055)
        self.reach = settings.get("reach", 0.057)
        self.vee, self.vee_width = settings.get("vee", 0.0), settings.get("vee_width", 0.4)

    def height(self, angle):
        """Height at the angles."""
        a = np.abs((angle + np.pi) % (2 * np.pi) - np.pi)
        z = self.front + (self.back - self.front) * (0.5 - 0.5 * np.cos(a))
        return z - self.vee * np.clip(1 - a / self.vee_width, 0, 1)

    def angle(self, p):
        """Angle of points about the neck."""
        return np.arctan2(p[..., 0], -(p[..., 1] - self.centre[1]))

    def above(self, p):
        """Signed height of points above the neckline; shoulders, far away, are below it."""
        a = self.angle(p)
        reach = (
            self.reach + 0.050 * (0.5 + 0.5 * np.cos(a)) ** 2 + 0.012 * (0.5 - 0.5 * np.cos(a)) ** 2
        )
        beyond = np.hypot(p[..., 0], p[..., 1] - self.centre[1]) - reach
        return p[..., 2] - self.height(a) - 2 * 0.008 * np.logaddexp(0, beyond / 0.008)

    def loop(self, v, tris, n=240):
        """The opening of the cut mesh as n points in order of the angle."""
        edges = {}
        for t in tris:
            for a, b in zip(t, np.roll(t, -1), strict=True):
                edges[(min(a, b), max(a, b))] = edges.get((min(a, b), max(a, b)), 0) + 1
        rim = np.array(sorted({i for e, k in edges.items() if k == 1 for i in e}))
        rim = rim[np.abs(self.above(v[rim])) < 5e-3]
        a = self.angle(v[rim])
        order = np.argsort(a)
        a, q = a[order], v[rim][order]
        a, q = np.concatenate([a - 2 * np.pi, a, a + 2 * np.pi]), np.concatenate([q, q, q])
        t = np.linspace(-np.pi, np.pi, n, endpoint=False)
        q = np.stack([np.interp(t, a, q[:, i]) for i in range(3)], 1)
        return t, np.stack([ndi.gaussian_filter1d(q[:, i], 2, mode="wrap") for i in range(3)], 1)


def folds(p, human, settings):
    """Height of the folds in metres: pulls from the armpits, slack on the chest, soft rumples."""
    shoulder = human.points[human.members["joint-l-shoulder"]].mean(0)
    q = np.stack([np.abs(p[:, 0]), p[:, 1], p[:, 2]], 1)
    side = np.sign(p[:, 0])[:, None] * 0.31
    pit = shoulder + np.array([-0.012, 0, -0.085])
    d = q - pit
    angle, r = np.arctan2(d[:, 2], d[:, 0]), np.hypot(d[:, 0], d[:, 2])
    fan = np.stack([angle * 0.055 + side[:, 0], r * 0.18, side[:, 0]], 1)
    pull = np.abs(noise(fan, 0.016, 5)) * np.exp(-((r / 0.085) ** 2))
    drape = np.stack(
        [
            p[:, 0] + 0.25 * np.abs(p[:, 2] - shoulder[2]) * np.sign(p[:, 0]),
            p[:, 1],
            p[:, 2] * 0.25,
        ],
        1,
    )
    drape = noise(drape, 0.040, 6) * smoothstep(shoulder[2] + 0.01, shoulder[2] - 0.12, p[:, 2])
    rumple = noise(
        p + 0.012 * np.stack([noise(p, 0.05, 8), noise(p, 0.05, 9), noise(p, 0.05, 10)], 1),
        0.030,
        7,
        2,
    )
    return settings.get("folds", 1.0) * (-0.0080 * pull + 0.0042 * drape + 0.0022 * rumple)


def material(color):
    """A matt cloth with a micro-weave."""
    nodes = Nodes("cloth")
    place = nodes.add("TexCoord").outputs["Object"]
    bands = [
        nodes.add(
            "TexWave",
            {"wave_type": "BANDS", "bands_direction": d},
            {"Vector": place, "Scale": 420.0, "Distortion": 1.2, "Detail": 1.0},
        )
        for d in "XZ"
    ]
    fuzz = nodes.add("TexNoise", None, {"Vector": place, "Scale": 1100.0, "Detail": 3.0})
    wash = nodes.add("TexNoise", None, {"Vector": place, "Scale": 14.0, "Detail": 4.0})
    height = nodes.total(
        nodes.scaled(bands[0], 0.5), nodes.scaled(bands[1], 0.5), nodes.scaled(fuzz, 0.9)
    )
    bump = nodes.add("Bump", None, {"Height": height, "Strength": 0.4, "Distance": 0.0008})
    shade = nodes.add(
        "MapRange",
        None,
        {
            0: nodes.total(nodes.scaled(fuzz, 0.75), nodes.scaled(wash, 0.25)),
            1: 0.3,
            2: 0.7,
            3: 0.78,
            4: 1.22,
        },
    )
    mix = nodes.add(
        "Mix", {"data_type": "RGBA", "blend_type": "MULTIPLY"}, {0: 1.0, 6: (*color, 1), 7: shade}
    )
    shader = nodes.add(
        "BsdfPrincipled",
        None,
        {
            "Base Color": mix.outputs[2],
            "Normal": bump,
            "Roughness": 0.85,
            "Specular IOR Level": 0.22,
            "Sheen Weight": 0.08,
            "Sheen Roughness": 0.4,
        },
    )
    return nodes.done(shader)


def strip(name, rows, mat, open_ends=False, thickness=0.0014):
    """A smooth strip from rows of points (rows x around x 3)."""
    r, n = rows.shape[:2]
    faces = [
        [j * n + i, j * n + (i + 1) % n, (j + 1) * n + (i + 1) % n, (j + 1) * n + i]
        for j in range(r - 1)
        for i in range(n - 1 if open_ends else n)
    ]
    ob = mesh_object(name, rows.reshape(-1, 3), faces, mat)
    solid = ob.modifiers.new("solidify", "SOLIDIFY")
    solid.thickness, solid.offset = thickness, 0
    sub = ob.modifiers.new("subdivision", "SUBSURF")
    sub.levels = sub.render_levels = 1
    return ob


def frame(loop, tree):
    """At each point of the neck loop: the way from it along the cloth, and the normal."""
    ahead = np.roll(loop, -1, 0) - np.roll(loop, 1, 0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    centre = loop.mean(0)
    normal = np.array(
        [
            tree.find_nearest(
                Vector(q + 0.4 * np.array([q[0] - centre[0], q[1] - centre[1], -0.02]) * 0.2)
            )[1]
            for q in loop
        ]
    )
    normal = ndi.gaussian_filter1d(normal, 6, axis=0, mode="wrap")
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    down = np.cross(normal, ahead)
    down *= np.sign((down * (loop - centre) - down * [0, 0, 0.02]).sum(1, keepdims=True))
    return down / np.linalg.norm(down, axis=1, keepdims=True), normal


def follow(tree, points, lift):
    """Points moved to ``lift`` metres above the cloth."""
    out = []
    for q in points:
        near, n, _, _ = tree.find_nearest(Vector(q))
        out.append(np.array(near) + np.array(n) * lift)
    return np.array(out)


def neckband(loop, tree, mat, width=0.017):
    """A ribbed band round the opening."""
    down, normal = frame(loop, tree)
    rows = [
        loop - normal * 0.0030 + down * 0.004,
        loop - normal * 0.0012 - down * 0.0004,
        loop + normal * 0.0008 - down * 0.0008,
    ]
    for t in np.linspace(0.1, 1, 7):
        rows.append(follow(tree, loop + down * width * t, 0.0017 if t < 0.99 else 0.0004))
    strip("neckband", np.array(rows), mat)


def shirt_collar(line, angles, loop, tree, mat):
    """A turned-down collar with two points, open in front."""
    down, normal = frame(loop, tree)
    a = np.abs(angles)
    gap = line.vee_width * 0.62
    keep = a > gap
    order = np.argsort(angles[keep] % (2 * np.pi))
    base, out_dir, nrm, a = (
        loop[keep][order],
        down[keep][order],
        normal[keep][order],
        a[keep][order],
    )
    up = -out_dir * 0.55 + np.array([0, 0, 0.85])
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    flat = base - np.append(line.centre, base[:, 2].mean())
    flat[:, 2] = 0
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    stand = 0.026 + 0.008 * smoothstep(0.6, 2.4, a)
    tip = smoothstep(1.25, gap, a)
    fall = 0.040 + 0.026 * tip**1.5
    front = np.array([0, -1, 0]) * (tip**1.5 * 0.010)[:, None]
    rows = [
        base - nrm * 0.001,
        base + up * (stand * 0.5)[:, None],
        base + up * (stand * 0.9)[:, None] + flat * 0.001,
        base + up * stand[:, None] + flat * 0.0045,
    ]
    crest = rows[-1]
    for t in np.linspace(0.12, 1, 8):
        q = (
            crest
            + flat * (0.004 + 0.012 * t)
            + np.array([0, 0, -1]) * (fall * t)[:, None]
            + front * t
        )
        near = follow(tree, q, 0.004)
        below = ((q - near) * nrm).sum(1) < 0
        q = np.where(below[:, None], near, q)
        rows.append(q)
    strip("collar", np.array(rows), mat, open_ends=True, thickness=0.0018)


def build(human, settings):
    """Make the garment; returns its mesh (verts, tris) and the neckline."""
    c = settings["cloth"]
    line = Neckline(human, c)
    faces = [human.faces[i] for i in human.faces_of("helper-tights")]
    faces = [f for f in faces if max(human.points[j, 2] for j in f) > human.chin[2] - 0.42]
    blank = mesh_object("garment", human.points, faces, subdivide=2)
    s = Surface(blank)
    bpy.data.objects.remove(blank)
    v, tris = s.verts.copy(), s.tris
    near = adjacency(len(v), tris)
    normals = vertex_normals(v, tris)
    slack = smoothstep(line.front + 0.02, line.front - 0.16, v[:, 2])
    v = v + normals * (c.get("ease", 0.004) + c.get("loose", 0.008) * slack)[:, None]
    smooth = v
    for _ in range(int(c.get("smooth", 40))):
        smooth = near @ smooth
    hold = smoothstep(0.09, 0.03, np.hypot(v[:, 0], v[:, 1] - line.centre[1]))[:, None] * 0.6
    v = smooth * (1 - hold) + v * hold
    body = BVHTree.FromPolygons(
        [tuple(q) for q in human.points], [human.faces[i] for i in human.faces_of("body")]
    )
    v = v + vertex_normals(v, tris) * folds(v, human, c)[:, None]
    for i, q in enumerate(v):  # never inside the body
        hit, n, _, d = body.find_nearest(Vector(q))
        if hit is not None and d < 0.05:
            depth = (q - np.array(hit)) @ np.array(n)
            if depth < 0.0028:
                v[i] = q + np.array(n) * (0.0028 - depth)
    for _ in range(2):
        v = 0.5 * v + 0.5 * (near @ v)
    v, tris = clip(v, tris, -line.above(v))
    mat = material(c["color"])
    ob = mesh_object("garment", v, [list(t) for t in tris], mat)
    solid = ob.modifiers.new("solidify", "SOLIDIFY")
    solid.thickness, solid.offset = 0.0015, 1
    tree = BVHTree.FromPolygons([tuple(q) for q in v], [tuple(t) for t in tris])
    angles, loop = line.loop(v, tris)
    if c.get("collar"):
        shirt_collar(line, angles, loop, tree, mat)
    else:
        neckband(loop, tree, mat, c.get("band", 0.017))
    return v, tris, line
