"""Install onnxruntime-gpu so that its files are the ones left in place, and prove it.

`onnxruntime` and `onnxruntime-gpu` both unpack into the folder `onnxruntime/`; the last one wins.
insightface asks for `onnxruntime` by name, so installing it after onnxruntime-gpu silently puts
everything on the CPU. Here insightface comes first, then both are removed, then onnxruntime-gpu
goes in alone. Run it again after any installation that brings `onnxruntime` back.

    python scripts/install_onnxruntime_gpu.py --insightface
"""

from __future__ import annotations

import argparse
import subprocess
import sys

REQUIREMENT = "onnxruntime-gpu>=1.27,<2"
"""From 1.27 on the wheels are built for CUDA 13, as torch 2.13 from the package index is."""

INSIGHTFACE = "insightface>=0.7.3"

PROVIDER = "CUDAExecutionProvider"

_PROBE = (
    "import importlib.util, sys\n"
    "if importlib.util.find_spec('torch'): import torch  # brings the CUDA libraries\n"
    "import onnxruntime\n"
    "print(' '.join(onnxruntime.get_available_providers()))\n"
)


class InstallError(RuntimeError):
    """It did not work; the text says at which step."""


def install(python: str, requirement: str, *, insightface: bool) -> list[str]:
    """Install into the environment of ``python`` (an interpreter) and return the providers found.

    Raises:
        InstallError: a step failed, or the GPU build is not what can be imported afterwards.
    """
    if insightface:
        _pip(python, "install", INSIGHTFACE)
    _pip(python, "uninstall", "--yes", "onnxruntime", "onnxruntime-gpu")
    _pip(python, "install", requirement)
    return verify(python)


def verify(python: str) -> list[str]:
    """The providers of the onnxruntime that ``python`` imports; it must be the GPU build.

    Raises:
        InstallError: it cannot be imported, or it is the CPU build.
    """
    done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=300)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InstallError(f"onnxruntime cannot be imported: {last}")
    providers = done.stdout.split()
    if PROVIDER not in providers:
        raise InstallError(
            f"the onnxruntime that is imported is the CPU build ({', '.join(providers)}); "
            "run scripts/install_onnxruntime_gpu.py"
        )
    return providers


def _pip(python: str, *arguments: str) -> None:
    # pip of this interpreter works on the other one's environment, which may have none.
    command = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *arguments], stdout=sys.stderr, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise InstallError(
            f"pip {' '.join(arguments)} failed: {(errors or ['no reason given'])[-1]}"
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter to install for")
    parser.add_argument("--requirement", default=REQUIREMENT, help=f"default: {REQUIREMENT}")
    parser.add_argument("--insightface", action="store_true", help="install insightface, too")
    parser.add_argument("--verify", action="store_true", help="only look which build is there")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.verify:
            providers = verify(chosen.python)
        else:
            providers = install(chosen.python, chosen.requirement, insightface=chosen.insightface)
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"onnxruntime-gpu in place: {', '.join(providers)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
