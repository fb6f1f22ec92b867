"""Brows, lashes, stubble and peach fuzz, and the hair objects and materials."""

import bpy
import numpy as np
from mathutils import Vector
from numpy.polynomial import polynomial

from scripts.sample_portraits.groom import norm
from scripts.sample_portraits.shading import Nodes


def material(name, melanin=None, redness=0.3, roughness=0.3, spread=0.3, color=None):
    """A hair shader by melanin, or by a plain colour."""
    nodes = Nodes(name)
    shader = nodes.tree.nodes.new("ShaderNodeBsdfHairPrincipled")
    shader.parametrization = "COLOR" if color else "MELANIN"
    values = {
        "Roughness": roughness,
        "Radial Roughness": 0.38,
        "Coat": 0.0,
        "Random Color": spread,
        "Random Roughness": 0.15,
    }
    values.update(
        {"Color": (*color, 1)} if color else {"Melanin": melanin, "Melanin Redness": redness}
    )
    for name_, v in values.items():
        if name_ in shader.inputs:
            shader.inputs[name_].default_value = v
    return nodes.done(shader)


def hair_object(name, strands, r0, r1, mat, rng):
    """Hair curves from (n, points, 3) strands with root and tip radius."""
    n, s = strands.shape[:2]
    curves = bpy.data.hair_curves.new(name)
    curves.add_curves([s] * n)
    curves.points.foreach_set("position", strands.astype(np.float32).ravel())
    radius = (r0 + (r1 - r0) * np.linspace(0, 1, s) ** 1.5)[None] * (
        0.75 + 0.5 * rng.random((n, 1))
    )
    curves.points.foreach_set("radius", radius.astype(np.float32).ravel())
    curves.materials.append(mat)
    bpy.context.scene.collection.objects.link(bpy.data.objects.new(name, curves))


def brows(human, settings, tree, rng):
    """Brow hairs about a cubic through the settings' path."""
    b, out = settings["brow"], []
    path = np.array(b["path"])
    cubic = polynomial.polyfit(path[:, 0], path[:, 1], 3)
    wild = b.get("wild", 0.24)
    for s, sign in (("l", 1), ("r", -1)):
        e, r = human.eye[s], human.eye_radius[s]
        n = int(b["n"] * 2.4)
        t = rng.random(n) ** 0.85
        x = np.interp(t, np.linspace(0, 1, len(path)), path[:, 0])
        off = (rng.random(n) + rng.random(n) - 1) * 0.95
        thick = b.get("thick", 0.42) * np.interp(
            t, [0, 0.12, 0.5, 0.8, 1], [0.42, 0.95, 1.0, 0.62, 0.22]
        )
        z = polynomial.polyval(x, cubic) + off * thick
        rise = np.interp(t, [0, 0.15, 0.45, 0.75, 1], [0.72, 0.5, 0.2, -0.22, -0.45]) - off * 0.5
        out_ward = np.interp(t, [0, 0.2, 1], [0.25, 0.8, 1])
        length = 0.0068 * (0.5 + 0.7 * rng.random(n)) * np.interp(t, [0, 0.5, 1], [0.9, 1, 0.75])
        for i in range(n):
            p, normal, _, _ = tree.ray_cast(
                Vector((e[0] + sign * x[i] * r, -1.0, e[2] + z[i] * r)), Vector((0, 1, 0))
            )
            if p is None:
                continue
            p, normal = np.array(p), np.array(normal)
            d = norm(np.array([sign * out_ward[i], 0, rise[i]]) + rng.normal(size=3) * wild)
            d = norm(d - normal * (d @ normal) + normal * 0.18)
            q = np.linspace(0, 1, 6)[:, None]
            out.append(
                p
                - normal * 0.0003
                + d * length[i] * q
                - normal * q**2 * length[i] * 0.20
                + np.array([sign, 0, -0.35]) * q**2 * length[i] * 0.18
            )
    hair_object(
        "brows",
        np.array(out),
        0.00005,
        0.00002,
        material("brow", b.get("melanin"), b.get("red"), 0.4, color=b.get("color")),
        rng,
    )


def lashes(human, settings, rng):
    """Upper lashes along the mesh's own lash helpers."""
    out, n, length = [], 150, settings.get("lash", 0.0095)
    for s in "lr":
        group = human.faces_of(f"helper-{s}-eyelashes-1")
        edges = {
            tuple(sorted((f[i], f[(i + 1) % len(f)])))
            for f in (human.faces[j] for j in group)
            for i in range(len(f))
        }
        pairs = []
        for edge in edges:
            far = {i: np.linalg.norm(human.points[i] - human.eye[s]) for i in edge}
            a, b = sorted(edge, key=far.get)
            if far[b] - far[a] > 0.0015:
                pairs.append((human.points[a], human.points[b]))
        pairs.sort(key=lambda ab: ab[0][0])
        root, tip = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
        u = np.sort(rng.random(n)) * (len(root) - 1)
        i = np.minimum(u.astype(int), len(root) - 2)
        f = (u - i)[:, None]
        p, q = root[i] * (1 - f) + root[i + 1] * f, tip[i] * (1 - f) + tip[i + 1] * f
        d = norm(q - p) + rng.normal(size=(n, 3)) * 0.13
        size = (
            length
            * (0.55 + 0.5 * rng.random(n))
            * (1 - abs(2 * u / (len(root) - 1) - 1) ** 4 * 0.5)
        )[:, None, None]
        t = np.linspace(0, 1, 8)[None, :, None]
        upper = p[:, 2] > root[:, 2].min() + 0.35 * np.ptp(
            root[:, 2]
        )  # the helper turns about the inner corner
        out.append(
            (
                p[:, None]
                + d[:, None] * size * t * 0.95
                + np.array([0, -0.15, 1.0]) * t**2 * size * 0.42
            )[upper]
        )
    hair_object(
        "lashes", np.concatenate(out), 0.00007, 0.00002, material("lash", 1.0, 0.3, 0.4, 0.05), rng
    )


def stubble(surface, density, settings, rng):
    """Short beard hairs."""
    p, n = surface.sample(rng, settings["n"], density)
    d = norm(n * 0.5 + np.array([0, -0.15, -1.0]) + rng.normal(size=p.shape) * 0.35)
    d = norm(d - n * (d * n).sum(1, keepdims=True) + n * 0.45)
    length = settings["length"] * (0.5 + rng.random((len(p), 1, 1)))
    strands = (
        p[:, None] - n[:, None] * 0.0002 + d[:, None] * length * np.linspace(0, 1, 4)[None, :, None]
    )
    hair_object(
        "stubble",
        strands,
        0.00005,
        0.00003,
        material("stubble", settings["melanin"], 0.2, 0.4, 0.4),
        rng,
    )


def fuzz(surface, density, n, eye_height, rng):
    """Peach fuzz, which softens the outline of the face."""
    p, normal = surface.sample(rng, n, density)
    d = norm(
        np.array([0, 0.2, -1.0])
        + (p - np.array([0, 0, eye_height])) * np.array([8.0, 0, 0])
        + rng.normal(size=p.shape) * 0.3
    )
    d = norm(d * 0.8 + normal * 0.5)
    strands = (
        p[:, None]
        + d[:, None]
        * (0.0018 * (0.5 + rng.random((len(p), 1, 1))))
        * np.linspace(0, 1, 3)[None, :, None]
    )
    hair_object("fuzz", strands, 0.000018, 0.000006, material("fuzz", 0.12, 0.4, 0.5), rng)
