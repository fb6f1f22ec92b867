"""What a container runs: look whether this machine fits, then become the worker.

``python -m worker.startup [serve | runpod]``; anything else is handed to ``python -m worker``. The
check loads no engine, so it costs seconds; it keeps a worker that cannot work from looking alive.
The process is replaced, not wrapped: signals reach the worker itself.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from worker.cli import main as worker_command

RUNPOD_HANDLER = Path(__file__).resolve().parent.parent / "runpod_handler.py"

_CHECK = ("check", "--strict", "--no-measure")


def command(arguments: Sequence[str]) -> list[str]:
    """The command line that ``arguments`` stand for, without the check that comes first.

    Raises:
        FileNotFoundError: ``runpod`` was asked for and its handler is not installed.
    """
    name, *rest = arguments or ["serve"]
    if name == "runpod":
        if not RUNPOD_HANDLER.is_file():
            raise FileNotFoundError(
                f"{RUNPOD_HANDLER} does not exist; runpod runs from a checkout or the image only"
            )
        return [sys.executable, "-u", str(RUNPOD_HANDLER), *rest]
    return [sys.executable, "-u", "-m", "worker", name, *rest]


def main(argv: Sequence[str] | None = None) -> int:
    """Check, then replace this process. Returns only when it comes to nothing: 1, with a sentence
    on standard error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        line = command(arguments)
    except FileNotFoundError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 1
    if (arguments or ["serve"])[0] in ("serve", "runpod") and (status := worker_command(_CHECK)):
        return status
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(line[0], line)


if __name__ == "__main__":
    # Process 1 of a container ignores signals it has no handler for: without this one, a container
    # stopped while it checks would have to be killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
