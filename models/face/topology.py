"""Which landmark of the 478-point face mesh is what.

"Right" and "left" are the person's own: the right eye is on the picture's left side. Orders are
stated with each group, so that points of two groups can be paired.
"""

from __future__ import annotations

LANDMARKS = 478
"""Points of the mesh: 468 of the face and 10 of the irises."""

LIPS_OUTER_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
"""Outer edge of the upper lip from the right mouth corner to the left, corners included."""
LIPS_OUTER_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
"""Outer edge of the lower lip from the right mouth corner to the left, corners included."""
LIPS_INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
"""Inner edge of the upper lip from the right inner corner to the left, corners included."""
LIPS_INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""Inner edge of the lower lip from the right inner corner to the left, corners included."""
LIPS_MIDDLE_UPPER = (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306)
"""Row of points between outer and inner edge of the upper lip, right to left."""
LIPS_MIDDLE_LOWER = (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306)
"""Row of points between outer and inner edge of the lower lip, right to left."""
LIPS = tuple(
    dict.fromkeys(
        LIPS_OUTER_UPPER
        + LIPS_OUTER_LOWER
        + LIPS_MIDDLE_UPPER
        + LIPS_MIDDLE_LOWER
        + LIPS_INNER_UPPER
        + LIPS_INNER_LOWER
    )
)
"""All points of both lips, each once."""
MOUTH_CORNER_RIGHT, MOUTH_CORNER_LEFT = 61, 291
LIP_UPPER_INNER_MIDDLE, LIP_LOWER_INNER_MIDDLE = 13, 14

RIGHT_EYE_UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133)
"""Edge of the right upper lid from the outer corner to the inner, corners included."""
RIGHT_EYE_LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133)
"""Edge of the right lower lid from the outer corner to the inner, corners included."""
LEFT_EYE_UPPER = (263, 466, 388, 387, 386, 385, 384, 398, 362)
"""Edge of the left upper lid from the outer corner to the inner, corners included."""
LEFT_EYE_LOWER = (263, 249, 390, 373, 374, 380, 381, 382, 362)
"""Edge of the left lower lid from the outer corner to the inner, corners included."""
RIGHT_EYE_CORNERS = (33, 133)
"""Outer, inner."""
LEFT_EYE_CORNERS = (263, 362)
"""Outer, inner."""

RIGHT_BROW_UPPER = (70, 63, 105, 66, 107)
"""Upper edge of the right eyebrow from its outer end to the inner."""
RIGHT_BROW_LOWER = (46, 53, 52, 65, 55)
"""Lower edge of the right eyebrow from its outer end to the inner."""
LEFT_BROW_UPPER = (300, 293, 334, 296, 336)
"""Upper edge of the left eyebrow from its outer end to the inner."""
LEFT_BROW_LOWER = (276, 283, 282, 295, 285)
"""Lower edge of the left eyebrow from its outer end to the inner."""

RIGHT_IRIS = (468, 469, 470, 471, 472)
"""Centre of the right iris, then its edge: the picture's right, top, left, bottom."""
LEFT_IRIS = (473, 474, 475, 476, 477)
"""Centre of the left iris, then its edge: the picture's right, top, left, bottom."""

# fmt: off
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
# fmt: on
"""Outline of the mesh, closed: from the top of the forehead over the left cheek to the chin and
back over the right cheek."""
# fmt: off
JAW_LINE = (
    234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152,
    377, 400, 378, 379, 365, 397, 288, 361, 323, 454,
)
# fmt: on
"""Lower part of the oval, from the right ear over the chin to the left ear."""
FOREHEAD_TOP = 10
CHIN = 152
EAR_RIGHT, EAR_LEFT = 234, 454

NOSE_BRIDGE = (168, 6, 197, 195, 5, 4)
"""Ridge of the nose from between the eyes to above the tip."""
NOSE_TIP = 1
NOSE_BASE = 2
"""Where the nose meets the upper lip's groove."""
NOSE_WINGS = (64, 98, 97, 2, 326, 327, 294)
"""Underside of the nose from the right wing over the base to the left wing."""

_RIGHT_EYE_BAND = (
    # The right eye's contour as the iris network answers it: lower lid with corners, upper lid
    # without corners, then rings around the eye, each its lower half first.
    *RIGHT_EYE_LOWER,
    *RIGHT_EYE_UPPER[1:-1],
    *(130, 25, 110, 24, 23, 22, 26, 112, 243),
    *(247, 30, 29, 27, 28, 56, 190),
    *(226, 31, 228, 229, 230, 231, 232, 233, 244),
    *(113, 225, 224, 223, 222, 221, 189),
    *(35, 124, 46, 53, 52, 65),
    *(143, 111, 117, 118, 119, 120, 121, 128, 245),
    *(156, 70, 63, 105, 66, 107, 55, 193),
)
_LEFT_EYE_BAND = (
    *LEFT_EYE_LOWER,
    *LEFT_EYE_UPPER[1:-1],
    *(359, 255, 339, 254, 253, 252, 256, 341, 463),
    *(467, 260, 259, 257, 258, 286, 414),
    *(446, 261, 448, 449, 450, 451, 452, 453, 464),
    *(342, 445, 444, 443, 442, 441, 413),
    *(265, 353, 276, 283, 282, 295),
    *(372, 340, 346, 347, 348, 349, 350, 357, 465),
    *(383, 300, 293, 334, 296, 336, 285, 417),
)
RIGHT_EYE_BAND: tuple[int, ...] = _RIGHT_EYE_BAND
"""71 points in and around the right eye, in the order of the iris network's answer: 16 of the
lids' edges, then rings outwards up to the eyebrow."""
LEFT_EYE_BAND: tuple[int, ...] = _LEFT_EYE_BAND
"""The same around the left eye; ``LEFT_EYE_BAND[i]`` mirrors ``RIGHT_EYE_BAND[i]``."""
