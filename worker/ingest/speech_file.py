"""Speech from a file: any container and codec PyAV reads, as the PCM a client would send."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from worker.rooms.port import MEDIA_RATE

MIN_RATE = 8_000
"""The lowest sample rate a speech socket takes, in Hz; lower ones are converted."""


class SpeechFileError(ValueError):
    """The file holds no speech that can be read; the text says why and what to send."""


def read_speech(path: Path) -> tuple[np.ndarray, int]:
    """Decode the first audio stream of ``path``.

    Returns:
        int16 mono samples, shape (n,), and their rate in Hz: the file's own between 8 and 48 kHz,
        otherwise 48 kHz.

    Raises:
        SpeechFileError: no such file, not a media file, no sound in it, or empty.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise SpeechFileError(
                    f"{path} has no sound track; send a recording of speech, such as WAV or MP3"
                )
            stream = container.streams.audio[0]
            own = stream.rate or 0
            rate = own if MIN_RATE <= own <= MEDIA_RATE else MEDIA_RATE
            converter = av.AudioResampler(format="s16", layout="mono", rate=rate)
            pieces = [
                piece.to_ndarray()[0]
                for frame in [*container.decode(stream), None]
                for piece in converter.resample(frame)
            ]
    except FileNotFoundError:
        raise SpeechFileError(f"{path} does not exist; give the path of a speech file") from None
    except IsADirectoryError:
        raise SpeechFileError(f"{path} is a folder; give the path of a speech file") from None
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, SpeechFileError):
            raise
        raise SpeechFileError(
            f"{path} cannot be read as sound ({error}); send WAV, MP3, M4A, OGG or FLAC"
        ) from error
    if not sum(map(len, pieces)):
        raise SpeechFileError(f"{path} holds no samples; send a recording of speech")
    return np.concatenate(pieces), rate
