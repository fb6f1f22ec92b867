"""Eyes: a painted eyeball with a dished iris, and a clear cornea in front of it."""

import numpy as np
from scipy import ndimage as ndi

from scripts.sample_portraits.shading import Nodes, float_image, mesh_object, smoothstep

IRIS = 0.43  # radius of the iris, in radii of the eyeball
SIZE = 640


def picture(settings, rng):
    """The front of the eyeball, in linear light."""
    yy, xx = np.mgrid[0:SIZE, 0:SIZE]
    x, y = (xx + 0.5) / SIZE * 2 - 1, 1 - (yy + 0.5) / SIZE * 2
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    pupil = settings.get("pupil", 0.155)
    fibres = np.zeros_like(r)
    for _ in range(60):
        k = rng.integers(20, 220)
        fibres += (
            np.sin(
                angle * k
                + rng.random() * 6.28
                + 3 * np.sin(r * rng.integers(4, 25) + rng.random() * 6.28)
            )
            / 8
        )
    fibres = 1 + 0.16 * fibres * np.clip((r - pupil) / (IRIS - pupil) * 3, 0, 1)
    t = np.clip((r - pupil) / (IRIS - pupil), 0, 1)[..., None]
    blend = smoothstep(0.15, 0.55, t)
    iris = np.array(settings["inner"]) * (1 - blend) + np.array(settings["outer"]) * blend
    iris = (
        iris
        * fibres[..., None]
        * (1.25 - 0.25 * smoothstep(0, 0.12, t))
        * (1 - 0.78 * smoothstep(0.78, 1, t))
    )
    iris = iris * smoothstep(pupil - 0.012, pupil + 0.012, r)[..., None] + 0.002
    white = np.array([0.54, 0.49, 0.465]) * (1 - 0.18 * smoothstep(0.5, 0.95, r))[..., None]
    white = white * (
        1 - smoothstep(0.55, 0.95, np.abs(x))[..., None] * np.array([0.02, 0.22, 0.25])
    )
    veins = np.zeros_like(r)
    for _ in range(46):
        side = rng.choice([-1, 1])
        along = np.linspace(0.98, 0.56 + 0.2 * rng.random(), 60)
        across = rng.normal() * 0.33 + np.cumsum(rng.normal(size=60)) * 0.008
        rows, cols = (
            ((1 - across) / 2 * SIZE).astype(int),
            ((side * along + 1) / 2 * SIZE).astype(int),
        )
        ok = (rows >= 0) & (rows < SIZE) & (cols >= 0) & (cols < SIZE)
        np.add.at(veins, (rows[ok], cols[ok]), 1)
    veins = np.clip(ndi.gaussian_filter(veins, 1.6) * 9, 0, 1)[..., None]
    white = white * (1 - veins * np.array([0.08, 0.38, 0.36])) * settings.get("white", 1.0)
    edge = smoothstep(IRIS - 0.035, IRIS + 0.03, r)[..., None]
    return iris * (1 - edge) + white * edge


def lathe(profile, n=96):
    """A surface of revolution about the y axis from (radius, depth) pairs."""
    a = 2 * np.pi * np.arange(n) / n
    verts = np.concatenate(
        [np.stack([r * np.cos(a), np.full(n, -d), r * np.sin(a)], 1) for r, d in profile]
    )
    faces = [
        [j * n + i, j * n + (i + 1) % n, (j + 1) * n + (i + 1) % n, (j + 1) * n + i]
        for j in range(len(profile) - 1)
        for i in range(n)
    ]
    return verts, faces


def aim(verts, centre, target):
    """Turn an eye that looks along -y towards the target, about its centre."""
    look = target - centre
    yaw, pitch = np.arctan2(look[0], -look[1]), np.arctan2(look[2], np.hypot(look[0], look[1]))
    c, s = np.cos(pitch), np.sin(pitch)
    verts = np.stack(
        [verts[:, 0], verts[:, 1] * c + verts[:, 2] * s, verts[:, 2] * c - verts[:, 1] * s], 1
    )
    c, s = np.cos(yaw), np.sin(yaw)
    return (
        np.stack(
            [verts[:, 0] * c - verts[:, 1] * s, verts[:, 0] * s + verts[:, 1] * c, verts[:, 2]], 1
        )
        + centre
    )


def materials(settings, rng):
    """Eyeball and cornea."""
    nodes = Nodes("eye")
    ball = nodes.done(
        nodes.add(
            "BsdfPrincipled",
            None,
            {
                "Base Color": nodes.image(float_image("eye", picture(settings, rng), True)),
                "Roughness": 0.35,
                "Specular IOR Level": 0.2,
            },
        )
    )
    nodes = Nodes("cornea")
    seen = nodes.math("SUBTRACT", 1.0, nodes.add("LightPath").outputs["Is Shadow Ray"])
    share = nodes.math("MULTIPLY", nodes.add("Fresnel", None, {"IOR": 1.376}), seen)
    mix = nodes.add(
        "MixShader",
        None,
        {
            0: share,
            1: nodes.add("BsdfTransparent"),
            2: nodes.add("BsdfGlossy", None, {"Roughness": 0.03}),
        },
    )
    return ball, nodes.done(mix)


def build(human, settings, camera, rng):
    """Both eyes, looking at the camera."""
    ball, cornea = materials(settings["eye"], rng)
    for s in "lr":
        r = human.eye_radius[s]
        profile = [
            (r * np.sin(a), r * np.cos(a)) for a in np.linspace(np.pi * 0.62, np.arcsin(IRIS), 40)
        ]
        rim = r * np.cos(np.arcsin(IRIS))
        for q in np.linspace(1, 0, 24)[1:]:
            dish = 0.0009 * np.sqrt(1 - q**2) if q > 0.36 else 0.0009
            profile.append((max(r * IRIS * q, 1e-6), rim - 0.0002 - dish))
        verts, faces = lathe(profile)
        uvs = np.stack([verts[:, 0] / r * 0.5 + 0.5, verts[:, 2] / r * 0.5 + 0.5], 1)
        mesh_object("eye." + s, aim(verts, human.eye[s], camera), faces, ball, faces, uvs)
        edge, outer = IRIS * 1.12, r * 1.006
        profile = [
            (outer * np.sin(a), outer * np.cos(a))
            for a in np.linspace(np.pi * 0.62, np.arcsin(edge), 40)
        ]
        rim, apex = outer * np.cos(np.arcsin(edge)), r * 1.075
        profile += [
            (max(outer * edge * q, 1e-6), apex - (apex - rim) * q**2)
            for q in np.linspace(1, 0, 24)[1:]
        ]
        verts, faces = lathe(profile)
        mesh_object("cornea." + s, aim(verts, human.eye[s], camera), faces, cornea)
