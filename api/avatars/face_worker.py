"""The process that examines photos: ``python -m api.avatars.face_worker``, spoken to through pipes.

Photos come from strangers, and decoders are where hostile files do their harm. In a process of its
own one can be killed when it takes too long, cannot reach the installation's secrets, and keeps
the event loop's process free of long computations. It ends when its standard input does, so that
it never outlives who started it.

A message is a line of JSON and the bytes it announces: ``{"verb": "make", "sizes": [n]}`` and a
photo of n bytes; back come ``{"ratio": …, "names": […], "sizes": […]}`` and the pictures, or
``{"refused": {code, message, remedy}}``, or ``{"failed": "<what>"}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

NICENESS = 5
"""Sessions and requests come first."""


def main() -> None:
    """Serve until standard input ends."""
    # Ctrl-C in a terminal reaches the whole group: the parent process decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    # What libraries print must not get among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        face_worker = _FaceWorker()
    except Exception as error:
        _write(answers, {"failed": str(error) or type(error).__name__})
        return
    _write(answers, {"ready": True})
    while (message := _read(sys.stdin.buffer)) is not None:
        header, photo = message
        head, pictures = face_worker.answer(header, photo)
        _write(answers, head, pictures)


class _FaceWorker:
    def __init__(self) -> None:
        """Load everything a photo needs, which can take a second; or minutes the first time, when
        files are fetched."""
        import cv2

        from api.avatars import alignment
        from models.face.matte import default_matting

        # One core per process: how many there are is the operator's choice.
        cv2.setNumThreads(1)
        alignment.analyzer()
        default_matting()
        self._alignment = alignment

    def answer(self, header: Mapping[str, Any], photo: bytes) -> tuple[dict[str, Any], list[bytes]]:
        """The answer's head and its pictures."""
        from models.face import PortraitError

        try:
            if header["verb"] == "crop":
                return {}, [self._alignment.crop(photo, header["ratio"])]
            portrait = self._alignment.examine(photo)
            names = list(portrait.crops)
            pictures = [portrait.image, portrait.preview, *(portrait.crops[n] for n in names)]
            return {"ratio": portrait.ratio, "names": names}, pictures
        except PortraitError as error:
            told = {"code": error.code, "message": error.message, "remedy": error.remedy}
            return {"refused": told}, []
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}"}, []


def _read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    wanted = sum(header["sizes"])
    photo = stream.read(wanted)
    return (header, photo) if len(photo) == wanted else None


def _write(stream: BinaryIO, head: Mapping[str, Any], pictures: Sequence[bytes] = ()) -> None:
    line = json.dumps({**head, "sizes": [len(picture) for picture in pictures]})
    stream.write(line.encode() + b"\n")
    for picture in pictures:
        stream.write(picture)
    stream.flush()


if __name__ == "__main__":
    main()
