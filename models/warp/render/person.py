"""An identity as the kernels see it: structures that point into its arrays, made once."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from models.warp.build.jaw import SHEETS
from models.warp.identity import EyeLayers, Field, MouthLayers, WarpIdentity
from models.warp.render import native

_made: WeakKeyDictionary[WarpIdentity, native.Person] = WeakKeyDictionary()


def native_person(identity: WarpIdentity) -> native.Person:
    """The structure of ``identity``, made when it is rendered for the first time. It is valid as
    long as the identity lives.

    Raises:
        ValueError: an array of the identity has another type or shape than it should.
    """
    found = _made.get(identity)
    if found is None:
        found = _made[identity] = _person(identity)
    return found


def _person(identity: WarpIdentity) -> native.Person:
    mouth, face = identity.mouth, identity.face
    return native.Person(
        grid=native.Grid.of(identity.grid),
        neck=_field(identity.neck, 0, identity.neck_hold),
        face=_field(face, 0, identity.face_hold),
        opacity=native.address(identity.opacity, np.float32, identity.grid.shape),
        jaw=native.address(identity.jaw, np.float32, (*face.grid.shape, SHEETS)),
        luma=native.Texture.of(identity.luma),
        chroma=native.Texture.of(identity.chroma, 2),
        texels=identity.texels,
        lit_row=identity.lit_row,
        eyes=tuple(_eye(eye) for eye in identity.eyes),
        lips=tuple(_field(mouth.field, layer) for layer in range(2)),
        inside=tuple(_field(mouth.hole, layer) for layer in range(3)),
        mouth=_mouth(mouth, identity.unit),
    )


def _field(field: Field, layer: int, hold: np.ndarray | None = None) -> native.Field:
    fields, nodes = field.layers[layer], int(np.prod(field.grid.shape))
    return native.Field(
        grid=native.Grid.of(field.grid),
        fields=native.address(fields, np.float32, (len(fields), nodes)),
        hold=None if hold is None else native.address(hold, np.float32, (2, nodes)),
        count=len(fields),
        to_nodes=_floats(field.to_nodes),
    )


def _eye(eye: EyeLayers) -> native.Eye:
    left, top, width, height = eye.patch
    return native.Eye(
        skin=native.Texture.of(eye.skin),
        skin_chroma=native.Texture.of(eye.skin_chroma, 2),
        shut=native.Texture.of(eye.shut, 2),
        shut_chroma=native.Texture.of(eye.shut_chroma, 2),
        ball=native.Texture.of(eye.ball),
        ball_chroma=native.Texture.of(eye.ball_chroma, 2),
        lashes=native.Texture.of(eye.lashes),
        glasses=native.Texture.of(eye.glasses),
        to_own=_floats(eye.to_own),
        to_skin=_floats(eye.to_skin),
        upper=_floats(eye.upper),
        lower=_floats(eye.lower),
        room=eye.room,
        ball_radius=eye.ball_radius,
        pixels=eye.pixels,
        lash=_floats(eye.lash),
        left=left,
        top=top,
        width=width,
        height=height,
    )


def _mouth(mouth: MouthLayers, unit: float) -> native.Mouth:
    grid = mouth.field.grid
    return native.Mouth(
        luma=native.Texture.of(mouth.luma),
        tint=native.Texture.of(mouth.tint, 2),
        depth=native.Plane.of(mouth.depth),
        ramp=native.Plane.of(mouth.ramp),
        inside=tuple(native.Texture.of(layer, 4) for layer in mouth.inside),
        blend=native.address(mouth.blend, np.float32, (grid.height, grid.width)),
        cavity=_floats(mouth.cavity),
        black=_floats(mouth.black),
        unit=unit,
        left=mouth.start[0],
        top=mouth.start[1],
        inside_left=mouth.inside_start[0],
        inside_top=mouth.inside_start[1],
        texels=mouth.texels,
        inside_texels=mouth.inside_texels,
    )


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values.ravel())
