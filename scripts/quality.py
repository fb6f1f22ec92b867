"""How good is the talking face? Renders photos with speech, measures, shows; or has two judged.

    python scripts/quality.py render CLIPS OUT      # videos, tracks, contact sheets, quality.md
    python scripts/quality.py measure CLIPS OUT     # the same for videos that are there already
    python scripts/quality.py compare A B votes.html

CLIPS is a folder of folders with one photo and one sound each, or of photos and sounds with like
names; with ``--all`` every photo says every sound. A file ``*track.json`` beside a sound is the
track of another video of the same speech, to compare with (as ``render`` writes them). The frames
come from a whole session, as ``python -m worker talk`` makes it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from face_quality import compare, sheet, track  # noqa: E402
from face_quality.score import Score, score  # noqa: E402

from models.engine import SPEECH_RATE  # noqa: E402
from models.face import default_analyzer  # noqa: E402
from worker import cli  # noqa: E402
from worker.ingest.speech_file import SpeechFileError, read_speech  # noqa: E402
from worker.pipeline.resampler import Resampler  # noqa: E402

PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}
SOUNDS = {".wav", ".mp3", ".ogg", ".flac", ".m4a"}


@dataclass(frozen=True)
class Clip:
    """A photo, what it says, and the track of another video of the same speech."""

    name: str
    photo: Path
    sound: Path
    reference: Path | None


def clips(folder: Path, every: bool = False) -> list[Clip]:
    """The clips of a folder; ``every``: each photo says each sound.

    Raises:
        ValueError: there are none.
    """
    found: list[Clip] = []
    for place in [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]:
        files = sorted(path for path in place.iterdir() if path.is_file())
        photos = [path for path in files if path.suffix.lower() in PHOTOS]
        sounds = [path for path in files if path.suffix.lower() in SOUNDS]
        if every:
            together = [(photo, sound) for photo in photos for sound in sounds]
        elif place != folder and len(photos) == len(sounds) == 1:
            together = [(photos[0], sounds[0])]
        else:
            together = [(p, s) for p in photos for s in sounds if p.stem == s.stem]
        for photo, sound in together:
            tracks = [p for p in files if p.name.endswith("track.json")]
            like = [p for p in tracks if p.stem.startswith(sound.stem)]
            reference = like or (tracks if len(sounds) == 1 else [])
            if place != folder and len(together) == 1:
                name = place.name
            else:
                name = photo.stem if photo.stem == sound.stem else f"{photo.stem}--{sound.stem}"
            found.append(Clip(name, photo, sound, reference[0] if reference else None))
    if not found:
        raise ValueError(
            f"{folder} holds no photo with a sound of the same name (--all pairs each with each)"
        )
    return found


def render(clip: Clip, out: Path, options: Sequence[str]) -> None:
    """The clip as ``OUT/name.mp4``.

    Raises:
        RuntimeError: the talk did not succeed; it has said why on standard error.
    """
    files = ["--portrait", str(clip.photo), "--speech", str(clip.sound)]
    video = ["--out", str(out / f"{clip.name}.mp4"), "--fast", "--quiet"]
    if cli.main(["talk", *files, *video, *options]) != 0:
        raise RuntimeError(f"{clip.name} could not be rendered")


def speech(clip: Clip) -> np.ndarray:
    """What the clip says: int16, (samples,), 16 kHz."""
    pcm, rate = read_speech(clip.sound)
    resampler = Resampler(rate, SPEECH_RATE)
    return np.concatenate([resampler.push(pcm), resampler.finish()])


def measure(clip: Clip, out: Path) -> Score:
    """Track, contact sheet and figures of the clip's video in ``out``."""
    said = speech(clip)
    video = out / f"{clip.name}.mp4"
    seen = track.measure(track.pictures(video), default_analyzer())
    track.save(seen, out / f"{clip.name}.track.json")
    reference = track.load(clip.reference) if clip.reference else None
    figures = score(seen, said, reference)
    sheet.draw(video, seen, figures, said, reference).save(out / f"{clip.name}.png")
    return figures


COLUMNS: dict[str, Callable[[Score], float | None]] = {
    "r": lambda s: s.r,
    "lag ms": lambda s: s.lag_ms,
    "width r": lambda s: s.width_r,
    "opening": lambda s: s.gap,
    "of the reference's": lambda s: s.gap_ratio,
    "closure AUC": lambda s: s.closure_auc,
    "reversals/s": lambda s: s.reversals,
    "closed in silence": lambda s: s.closed,
    "frozen": lambda s: s.frozen,
    "sharpness, end/start": lambda s: s.sharpness,
    "the same, lips closed": lambda s: s.sharpness_alike,
    "outside": lambda s: s.outside,
    "blinks/min": lambda s: s.blinks,
    "face found": lambda s: s.face,
}


def table(scores: dict[str, Score]) -> str:
    """Markdown table of all clips and their mean."""

    def cells(values: Sequence[float | None], name: str) -> str:
        digits = 0 if name == "lag ms" else 1 if name in ("reversals/s", "blinks/min") else 2
        shown = ["-" if v is None else f"{v:.{digits}f}" for v in values]
        return " | ".join(shown)

    lines = [
        f"| clip | {' | '.join(COLUMNS)} |",
        f"| --- |{' ---: |' * len(COLUMNS)}",
    ]
    rows = {name: [read(s) for read in COLUMNS.values()] for name, s in scores.items()}
    rows["**mean**"] = [
        float(np.mean(known)) if (known := [row[i] for row in rows.values() if row[i] is not None])
        else None
        for i in range(len(COLUMNS))
    ]  # fmt: skip
    for name, values in rows.items():
        shown = (cells([v], column) for v, column in zip(values, COLUMNS, strict=True))
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 a clip failed, 2 wrong use."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command")
    for name in ("render", "measure"):
        command = commands.add_parser(name)
        command.add_argument("clips", type=Path, help="folder of photos and speech")
        command.add_argument("out", type=Path, help="folder of the videos")
        command.add_argument("--all", action="store_true", help="every photo says every sound")
    talk = commands.choices["render"]
    talk.add_argument("--size", default="640x480", help="WIDTHxHEIGHT of 4:3")
    talk.add_argument("--liveliness", default="1.0")
    judge = commands.add_parser("compare")
    judge.add_argument("first", type=Path, help="folder A of videos")
    judge.add_argument("second", type=Path, help="folder B, with the same names")
    judge.add_argument("page", type=Path, help="HTML to write")
    judge.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "compare":
            text = compare.page(arguments.first, arguments.second, arguments.seed)
            arguments.page.write_text(text, "utf-8")
            return 0
        wanted = clips(arguments.clips, arguments.all)
        arguments.out.mkdir(parents=True, exist_ok=True)
        scores = {}
        for clip in wanted:
            if arguments.command == "render":
                options = ["--size", arguments.size, "--liveliness", arguments.liveliness]
                render(clip, arguments.out, options)
            scores[clip.name] = measure(clip, arguments.out)
            print(f"{clip.name}: {sheet.sentence(scores[clip.name])}", flush=True)
    except (ValueError, OSError, SpeechFileError) as error:
        print(error, file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    (arguments.out / "quality.md").write_text(table(scores), "utf-8")
    figures = {name: s.as_dict() for name, s in scores.items()}
    (arguments.out / "scores.json").write_text(json.dumps(figures, indent=2), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
