"""An identity as the kernels see it: structures that point into its arrays, made once."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from models.warp.build.jaw import SHEETS
from models.warp.identity import EyeLayers, Field, MouthLayers, WarpIdentity
from models.warp.render import native

_made: WeakKeyDictionary[WarpIdentity, native.PersonStruct] = WeakKeyDictionary()


def native_person(identity: WarpIdentity) -> native.PersonStruct:
    """The structure of ``identity``, made when it is rendered for the first time. It is valid as
    long as the identity lives.

    Raises:
        ValueError: an array of the identity has another type or shape than it should.
    """
    found = _made.get(identity)
    if found is None:
        found = _made[identity] = _person(identity)
    return found


def _person(identity: WarpIdentity) -> native.PersonStruct:
    mouth, face = identity.mouth, identity.face
    return native.PersonStruct(
        grid=native.GridStruct.of(identity.grid),
        neck=_field(identity.neck, 0, identity.neck_hold),
        face=_field(face, 0, identity.face_hold),
        opacity=native.address(identity.opacity, np.float32, identity.grid.shape),
        jaw=native.address(identity.jaw, np.float32, (*face.grid.shape, SHEETS)),
        luma=native.TextureStruct.of(identity.luma),
        chroma=native.TextureStruct.of(identity.chroma, 2),
        texels=identity.texels,
        lit_row=identity.lit_row,
        eyes=tuple(_eye(eye) for eye in identity.eyes),
        lips=tuple(_field(mouth.field, layer) for layer in range(2)),
        inside=tuple(_field(mouth.hole, layer) for layer in range(3)),
        mouth=_mouth(mouth, identity.unit),
    )


def _field(field: Field, layer: int, hold: np.ndarray | None = None) -> native.FieldStruct:
    fields, nodes = field.layers[layer], int(np.prod(field.grid.shape))
    return native.FieldStruct(
        grid=native.GridStruct.of(field.grid),
        fields=native.address(fields, np.float32, (len(fields), nodes)),
        hold=None if hold is None else native.address(hold, np.float32, (2, nodes)),
        count=len(fields),
        to_nodes=_floats(field.to_nodes),
    )


def _eye(eye: EyeLayers) -> native.EyeStruct:
    left, top, width, height = eye.patch
    return native.EyeStruct(
        skin=native.TextureStruct.of(eye.skin),
        skin_chroma=native.TextureStruct.of(eye.skin_chroma, 2),
        shut=native.TextureStruct.of(eye.shut, 2),
        shut_chroma=native.TextureStruct.of(eye.shut_chroma, 2),
        ball=native.TextureStruct.of(eye.ball),
        ball_chroma=native.TextureStruct.of(eye.ball_chroma, 2),
        lashes=native.TextureStruct.of(eye.lashes),
        glasses=native.TextureStruct.of(eye.glasses),
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


def _mouth(mouth: MouthLayers, unit: float) -> native.MouthStruct:
    grid = mouth.field.grid
    return native.MouthStruct(
        luma=native.TextureStruct.of(mouth.luma),
        tint=native.TextureStruct.of(mouth.tint, 2),
        depth=native.PlaneStruct.of(mouth.depth),
        ramp=native.PlaneStruct.of(mouth.ramp),
        inside=tuple(native.TextureStruct.of(layer, 4) for layer in mouth.inside),
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
