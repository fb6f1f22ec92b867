"""Measure the server: ``python scripts/benchmark.py engine | latency | capacity | api | ditto``.

Each prints a table and writes its figures with the machine's description as JSON. ``ditto`` needs
nothing but torch and numpy, and alone needs torch; ``api`` starts the control plane and its worker
as processes of their own; the others run a whole worker in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

DEFAULTS: dict[str, dict[str, Any]] = {
    "live": {"sessions": [1, 2, 4, 6], "seconds": 5.0, "trials": 40},
    "api": {"seconds": 5.0, "trials": 40, "rates": [50, 100, 200, 300, 400, 600]},
    "ditto": {
        "batches": [1, 2, 4, 8, 16, 32],
        "sessions": [8, 12, 16],
        "seconds": 20.0,
        "trials": 20,
    },
    "quick": {"batches": [1, 2], "sessions": [1, 2], "seconds": 0.5, "trials": 2},
}
"""What is measured unless the command line says otherwise."""


def command(what: str) -> Callable[[argparse.Namespace], dict[str, Any]]:
    """What measures ``what``. Imported late: each needs other packages."""
    if what == "ditto":
        from scripts import benchmark_ditto

        return benchmark_ditto.ditto
    if what == "api":
        from scripts import benchmark_api

        return benchmark_api.api
    from common.logs import configure_logging
    from scripts import benchmark_live
    from worker.settings import LogSettings

    configure_logging(LogSettings(level="error", format="console"))
    chosen: Callable[[argparse.Namespace], dict[str, Any]] = getattr(benchmark_live, what)
    return chosen


def machine(device: str) -> dict[str, Any]:
    """Where the figures come from."""
    info: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    if (torch := sys.modules.get("torch")) is not None:  # what is measured uses it
        info |= {"torch": torch.__version__, "device": device}
        if torch.cuda.is_available():
            info["gpu"] = torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        info["cpu"] = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        info["cpu"] = platform.processor()
    return info


def print_table(rows: list[dict[str, Any]]) -> None:
    """Rows with the same keys, as Markdown."""
    names = list(rows[0])
    widths = [max(len(name), *(len(str(row[name])) for row in rows)) for name in names]
    print("| " + " | ".join(n.rjust(w) for n, w in zip(names, widths, strict=True)) + " |")
    print("|" + "|".join("-" * (w + 1) + ":" for w in widths) + "|")
    for row in rows:
        cells = (str(row[n]).rjust(w) for n, w in zip(names, widths, strict=True))
        print("| " + " | ".join(cells) + " |")


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["engine", "latency", "capacity", "api", "ditto"])
    parser.add_argument("--portrait", type=Path, help="default: the sample")
    parser.add_argument("--speech", type=Path, help="default: the sample")
    parser.add_argument("--device", default="auto", help="of the engine ditto")
    parser.add_argument("--sizes", nargs="+", default=["640x480"], help="the first one counts live")
    parser.add_argument(
        "--threads",
        nargs="+",
        type=int,
        help="render threads; default: as a worker has here, engine: and one. The first one counts "
        "live",
    )
    parser.add_argument(
        "--room",
        choices=["file", "whep"],
        default="file",
        help="capacity: record every session to MP4, or nobody watches",
    )
    parser.add_argument("--batches", nargs="+", type=int, help="ditto: pictures rendered together")
    parser.add_argument("--sessions", nargs="+", type=int)
    parser.add_argument("--seconds", type=float, help="per measurement")
    parser.add_argument("--trials", type=int)
    parser.add_argument("--rates", nargs="+", type=int, help="api: requests/s")
    parser.add_argument("--quick", action="store_true", help="ditto: tiny networks, in seconds")
    parser.add_argument(
        "--no-compile", action="store_true", help="ditto: record torch's own kernels"
    )
    parser.add_argument("--out", type=Path, help="JSON to write; default out/benchmark-WHAT.json")
    arguments = parser.parse_args(given)
    arguments.out = arguments.out or Path("out") / f"benchmark-{arguments.what}.json"
    kind = arguments.what if arguments.what in DEFAULTS else "live"
    if arguments.quick:
        kind = "quick"
    for name, value in DEFAULTS[kind].items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    figures = command(arguments.what)(arguments)
    where = machine(arguments.device)
    for name, rows in figures.get("tables", {"": figures.get("rows", [])}).items():
        if rows:
            print(f"\n{name}\n" if name else "")
            print_table(rows)
    for note in figures.get("notes", []):
        print(f"\n{note}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"what": arguments.what, "machine": where, **figures}
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{json.dumps(where)}\nwritten to {arguments.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
