"""The command line: ``python -m worker serve | talk | check``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from models.engine import Canvas

RATIOS = ("4:3", "3:4", "1:1")

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 wrong use."""
    arguments = _parser().parse_args(argv)
    # Heavy imports wait until the arguments are known to be right.
    from models.assets import AssetError
    from models.engine import EngineError
    from models.face import PortraitError
    from worker.ingest.speech_file import SpeechFileError
    from worker.rooms.port import RoomError
    from worker.server import PortError
    from worker.settings import SettingsError
    from worker.talk import TalkError

    try:
        return int(arguments.run(arguments))
    except (SettingsError, SpeechFileError, PortraitError) as error:
        return _fail(str(error), EXIT_USAGE)
    except (AssetError, EngineError, RoomError, TalkError, PortError) as error:
        return _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail("stopped", 130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    serve = commands.add_parser("serve", help="run a resident worker", description=_serve.__doc__)
    serve.set_defaults(run=_serve)

    talk = commands.add_parser("talk", help="portrait + speech -> video", description=_talk.__doc__)
    talk.add_argument("--portrait", type=Path, required=True, help="photo: JPEG, PNG, GIF or WebP")
    talk.add_argument("--speech", type=Path, required=True, help="any sound file")
    talk.add_argument("--out", type=Path, required=True, help="the MP4 to write")
    talk.add_argument("--engine", choices=["auto", "warp", "ditto"], default="auto")
    talk.add_argument("--device", default="auto", help="ditto's: auto, cpu, cuda or cuda:N")
    talk.add_argument("--aspect", choices=RATIOS, default="4:3")
    talk.add_argument("--size", type=_size, help="WIDTHxHEIGHT in pixels; default 640 wide for 4:3")
    talk.add_argument("--liveliness", type=float, default=1.0, help="0 still .. 1 natural .. 1.5")
    talk.add_argument("--fast", action="store_true", help="no real-time pacing; the same frames")
    talk.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    talk.set_defaults(run=_talk)

    check = commands.add_parser("check", help="can this machine do it?", description=_check.__doc__)
    check.add_argument("--portrait", type=Path, help="photo to measure with")
    check.add_argument("--strict", action="store_true", help="warnings are refusals, too")
    check.add_argument("--no-measure", action="store_true", help="look only; load no engine")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_check)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    """Run a resident worker. Settings are environment variables AVATAR_WORKER_*; see
    docs/configuration.md."""
    from common.logs import configure_logging
    from worker.engines import engine_loader
    from worker.process.parent import follow_parent
    from worker.server import serve
    from worker.service import Worker
    from worker.settings import load_settings

    settings = load_settings()
    configure_logging(settings.log)
    if settings.parent_pid is not None:
        follow_parent(settings.parent_pid)

    async def run() -> None:
        await serve(Worker(settings, engine_loader(settings)), settings)

    asyncio.run(run())
    return 0


def _talk(arguments: argparse.Namespace) -> int:
    """Turn a portrait and a speech file into a video, through a whole real session."""
    from tqdm import tqdm

    from common.canvas_settings import CanvasSettings
    from common.logs import configure_logging
    from worker.engines import engine_loader
    from worker.settings import LogSettings, load_settings
    from worker.talk import talk

    if not arguments.portrait.is_file():
        return _fail(f"{arguments.portrait} does not exist; give the path of a photo", EXIT_USAGE)
    settings = load_settings(
        host="127.0.0.1",
        ws_port=0,
        public_ws_url=None,
        engine=arguments.engine,
        device=arguments.device,
        liveliness=arguments.liveliness,
        max_sessions=1,
    )
    configure_logging(LogSettings(level="error", format="console"))
    canvas = arguments.size or CanvasSettings().canvas(arguments.aspect)
    _check_ratio(canvas, arguments.aspect)
    bar = tqdm(unit="frame", desc="talking", disable=arguments.quiet or None, leave=False)

    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    with bar:
        report = asyncio.run(
            talk(
                photo=arguments.portrait.read_bytes(),
                speech=arguments.speech,
                out=arguments.out,
                settings=settings,
                load_engine=engine_loader(settings),
                canvas=canvas,
                aspect_ratio=arguments.aspect,
                fast=arguments.fast,
                progress=progress,
            )
        )
    if not arguments.quiet:
        print(f"{arguments.out}: {report.frames} frames, {report.speech_s:.1f} s of speech")
        for name, seconds in report.seconds.items():
            print(f"  {name:<20}{seconds:7.2f} s")
        print(
            f"  render per frame     {report.render_ms_p50:6.1f} ms (median), "
            f"{report.render_ms_p95:.1f} ms (95 %)"
        )
        print(f"  speech to first frame{report.first_frame_ms or 0:6d} ms")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    """Print what this machine has, whether the worker fits it, and how many sessions it holds.
    Exit status 1: it does not fit, and one sentence says why."""
    from worker.diagnostics.check import inspect, print_report
    from worker.engines import sample_portrait
    from worker.settings import load_settings

    portrait = arguments.portrait or sample_portrait()
    if not portrait.is_file():
        return _fail(f"{portrait} does not exist; give the path of a photo", EXIT_USAGE)
    report = inspect(load_settings(), portrait, measure=not arguments.no_measure)
    return print_report(report, strict=arguments.strict, as_json=arguments.json)


def _size(text: str) -> Canvas:
    try:
        width, height = (int(side) for side in text.lower().split("x"))
        return Canvas(width, height)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; write WIDTHxHEIGHT with even sides, such as 640x480 ({error})"
        ) from None


def _check_ratio(canvas: Canvas, ratio: str) -> None:
    from worker.settings import SettingsError

    wide, high = (int(part) for part in ratio.split(":"))
    if abs(canvas.width * high - canvas.height * wide) > max(wide, high) * 16:
        raise SettingsError(
            f"--size {canvas.width}x{canvas.height} is not {ratio}; give --aspect as well"
        )


def _fail(sentence: str, status: int) -> int:
    print(f"worker: {sentence}", file=sys.stderr)
    return status
