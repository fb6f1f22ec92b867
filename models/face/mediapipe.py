"""The default face analyser: MediaPipe's detector, mesh and iris networks on LiteRT."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import cv2
import numpy as np

from models import assets
from models.face import topology
from models.face.blazeface import Detection, FaceDetector
from models.face.network import Network
from models.face.port import Face
from models.face.pose import head_pose

MESH_SIDE = 192
IRIS_SIDE = 64
MESH_SCALE = 1.5
"""Side of the square handed to the mesh network, over the longer side of the face box."""
IRIS_SCALE = 2.3
"""Side of the square handed to the iris network, over the width of the eye."""
MIN_PRESENCE = 0.5
"""Detections the mesh network gives a lower probability of being a face are dropped."""
HAIRLINE = 0.08
"""The mesh ends on the forehead: the hairline lies this much of its height above."""
MAX_SPREAD = 0.008
"""Mean spread of the landmarks (see ``Face.spread``) above which a face is doubtful. Portraits
have 0.003 to 0.005."""
MAX_DISAGREEMENT = 0.17
"""A doubtful face is none when the mesh and the iris network put the eyes' outlines so far apart,
over the width of the eye: it is an animal's or a pattern's. Human eyes have 0.05 to 0.13."""

# How the regions of one face are moved: sideways and downwards over the side, zoom, radians.
_MOVES = (
    (0.0, 0.0, 1.0, 0.0),
    (0.03, 0.02, 0.92, 0.08),
    (-0.02, 0.03, 1.08, -0.08),
    (-0.03, -0.02, 0.95, 0.12),
    (0.02, -0.03, 1.05, -0.12),
)
_EYES = (
    (topology.RIGHT_EYE_BAND, topology.RIGHT_IRIS),
    (topology.LEFT_EYE_BAND, topology.LEFT_IRIS),
)


@dataclass(frozen=True)
class Square:
    """A rotated square region of a photo."""

    x: float
    """Centre, pixels."""
    y: float
    side: float
    """Pixels."""
    angle: float
    """Radians the region's upright direction is turned clockwise in the picture."""

    def to_photo(self, pixels: int) -> np.ndarray:
        """Affine matrix (2, 3) from a crop of ``pixels`` x ``pixels`` to the photo."""
        scale = self.side / pixels
        cos, sin = np.cos(self.angle) * scale, np.sin(self.angle) * scale
        half = pixels / 2
        return np.array(
            [
                [cos, -sin, self.x - cos * half + sin * half],
                [sin, cos, self.y - sin * half - cos * half],
            ],
            np.float64,
        )


class Pyramid:
    """A photo and its halved copies, so that small crops of big regions do not alias."""

    def __init__(self, rgb: np.ndarray) -> None:
        self._levels = [rgb]

    def _level(self, index: int) -> np.ndarray:
        while len(self._levels) <= index and min(self._levels[-1].shape[:2]) >= 64:
            last = self._levels[-1]
            size = (last.shape[1] // 2, last.shape[0] // 2)
            self._levels.append(cv2.resize(last, size, interpolation=cv2.INTER_AREA))
        return self._levels[min(index, len(self._levels) - 1)]

    def crop(self, square: Square, pixels: int) -> np.ndarray:
        """The region as float32 RGB in 0..1, shape (1, pixels, pixels, 3); grey outside."""
        index = max(0, int(np.floor(np.log2(max(square.side / pixels, 1.0)))))
        level = self._level(index)
        shrink = np.array(
            [
                [level.shape[1] / self._levels[0].shape[1]],
                [level.shape[0] / self._levels[0].shape[0]],
            ]
        )
        # Continuous coordinates: a pixel's centre lies at +0.5 in both systems.
        matrix = square.to_photo(pixels) * shrink
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        crop = cv2.warpAffine(
            level,
            matrix,
            (pixels, pixels),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return (crop.astype(np.float32) / 255.0)[None]


class MediaPipeAnalyzer:
    """Implements ``FaceAnalyzer`` with layout ``mesh478``. One photo at a time; thread-safe."""

    def __init__(self, threads: int = 1) -> None:
        """Load the networks, fetching their files on first use (see ``models.assets``).

        Args:
            threads: CPU threads per network.
        """
        detector, mesh, iris = assets.ensure(assets.FACE_DETECTOR, assets.FACE_MESH, assets.IRIS)
        self._lock = threading.Lock()
        self._detector = FaceDetector(Network(detector, threads))
        self._mesh = Network(mesh, threads)
        self._iris = Network(iris, threads)

    def analyze(self, rgb: np.ndarray) -> list[Face]:
        """Every face in ``rgb`` (uint8, (height, width, 3)), largest first; empty when none."""
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"expected uint8 RGB (height, width, 3), got {rgb.dtype} {rgb.shape}")
        with self._lock:
            photo = Pyramid(rgb)
            found = [self._face(photo, detection) for detection in self._detector(rgb)]
        faces = [face for face in found if face is not None]
        faces.sort(key=lambda face: face.height, reverse=True)
        return _distinct(faces)

    def _face(self, photo: Pyramid, detection: Detection) -> Face | None:
        right, left = detection.points[0], detection.points[1]
        x0, y0, x1, y1 = detection.box
        square = Square(
            (x0 + x1) / 2,
            (y0 + y1) / 2,
            max(x1 - x0, y1 - y0) * MESH_SCALE,
            float(np.arctan2(left[1] - right[1], left[0] - right[0])),
        )
        presence = 0.0
        for _ in range(3):
            mesh, presence = self._mesh_in(photo, square)
            square = _square_of(mesh)
        if presence < MIN_PRESENCE:
            return None
        mesh, wander = self._steady_mesh(photo, square)
        landmarks = self._with_irises(photo, mesh)
        height = float(np.linalg.norm(mesh[topology.CHIN] - mesh[topology.FOREHEAD_TOP]))
        spread = np.zeros(topology.LANDMARKS, np.float32)
        spread[:468] = wander / height
        for band, iris in _EYES:
            spread[list(iris)] = spread[list(band[:16])].mean()
        if spread.mean() > MAX_SPREAD and _eye_disagreement(mesh, landmarks) > MAX_DISAGREEMENT:
            return None
        oval = landmarks[list(topology.FACE_OVAL), :2]
        low, high = oval.min(0), oval.max(0)
        top = low[1] - HAIRLINE * (high[1] - low[1])
        return Face(
            (float(low[0]), float(top), float(high[0]), float(high[1])),
            detection.score,
            landmarks.astype(np.float32),
            "mesh478",
            head_pose(landmarks),
            spread,
        )

    def _mesh_in(self, photo: Pyramid, square: Square) -> tuple[np.ndarray, float]:
        """Mesh (468, 3) in photo pixels and the probability that the region shows a face."""
        out = self._mesh(photo.crop(square, MESH_SIDE))
        points = out["conv2d_21"].reshape(468, 3).astype(np.float64)
        matrix = square.to_photo(MESH_SIDE)
        points[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        points[:, 2] *= square.side / MESH_SIDE
        return points, float(1 / (1 + np.exp(-out["conv2d_31"].item())))

    def _steady_mesh(self, photo: Pyramid, square: Square) -> tuple[np.ndarray, np.ndarray]:
        """Mean mesh (468, 3) of slightly moved regions, and each point's spread in pixels (468,).

        The network's jitter averages out; how large it is tells seen from guessed.
        """
        meshes = np.stack(
            [
                self._mesh_in(
                    photo,
                    Square(
                        square.x + dx * square.side,
                        square.y + dy * square.side,
                        square.side * grow,
                        square.angle + turn,
                    ),
                )[0]
                for dx, dy, grow, turn in _MOVES
            ]
        )
        return meshes.mean(0), np.sqrt(meshes[:, :, :2].var(0).mean(1))

    def _with_irises(self, photo: Pyramid, mesh: np.ndarray) -> np.ndarray:
        """The mesh with eye contours refined and irises appended: (478, 3)."""
        landmarks = np.zeros((topology.LANDMARKS, 3))
        landmarks[:468] = mesh
        roll = _roll(mesh)
        for corners, band, iris, mirrored in (
            (topology.RIGHT_EYE_CORNERS, topology.RIGHT_EYE_BAND, topology.RIGHT_IRIS, False),
            (topology.LEFT_EYE_CORNERS, topology.LEFT_EYE_BAND, topology.LEFT_IRIS, True),
        ):
            ends = mesh[list(corners), :2]
            centre = ends.mean(0)
            side = float(np.linalg.norm(ends[0] - ends[1])) * IRIS_SCALE
            square = Square(float(centre[0]), float(centre[1]), side, roll)
            contour, circle = self._iris_in(photo, square, mirrored)
            landmarks[list(band), :2] = contour[:, :2]
            landmarks[list(iris), :2] = circle[:, :2]
            # The iris lies in the plane of the lids' edges.
            landmarks[list(iris), 2] = mesh[list(band[:16]), 2].mean()
        return landmarks

    def _iris_in(
        self, photo: Pyramid, square: Square, mirrored: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Contour (71, 2) and iris (5, 2) in photo pixels; the network knows right eyes only."""
        crop = photo.crop(square, IRIS_SIDE)
        if mirrored:
            crop = np.ascontiguousarray(crop[:, :, ::-1])
        out = self._iris(crop)
        points = np.concatenate(
            [
                out["output_eyes_contours_and_brows"].reshape(71, 3),
                out["output_iris"].reshape(5, 3),
            ]
        )[:, :2].astype(np.float64)
        if mirrored:
            points[:, 0] = IRIS_SIDE - points[:, 0]
            points[-5:] = points[[-5, -2, -3, -4, -1]]
        matrix = square.to_photo(IRIS_SIDE)
        points = points @ matrix[:, :2].T + matrix[:, 2]
        return points[:71], points[71:]


def _roll(mesh: np.ndarray) -> float:
    right, left = mesh[topology.RIGHT_EYE_CORNERS[0]], mesh[topology.LEFT_EYE_CORNERS[0]]
    return float(np.arctan2(left[1] - right[1], left[0] - right[0]))


def _eye_disagreement(mesh: np.ndarray, landmarks: np.ndarray) -> float:
    """Mean distance of the two networks' eye regions over the width of the eye; the better eye."""
    apart = []
    for band, _ in _EYES:
        outer, inner = mesh[band[0], :2], mesh[band[8], :2]
        moved = np.linalg.norm(
            (landmarks - np.pad(mesh, ((0, 10), (0, 0))))[list(band), :2], axis=1
        )
        apart.append(moved.mean() / max(float(np.linalg.norm(outer - inner)), 1e-6))
    return float(min(apart))


def _square_of(mesh: np.ndarray) -> Square:
    """The region the mesh network wants to see, from a mesh it answered before."""
    angle = _roll(mesh)
    cos, sin = np.cos(angle), np.sin(angle)
    upright = mesh[:, :2] @ np.array([[cos, -sin], [sin, cos]])
    low, high = upright.min(0), upright.max(0)
    centre = np.array([[cos, -sin], [sin, cos]]) @ ((low + high) / 2)
    return Square(float(centre[0]), float(centre[1]), float((high - low).max()) * MESH_SCALE, angle)


def _distinct(faces: list[Face]) -> list[Face]:
    """Drop faces that lie on a larger one: two detections of the same head."""
    kept: list[Face] = []
    for face in faces:
        x, y = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
        if not any(k.box[0] < x < k.box[2] and k.box[1] < y < k.box[3] for k in kept):
            kept.append(face)
    return kept
