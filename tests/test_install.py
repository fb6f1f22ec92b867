"""What `pip install .` brings is enough for everything but what an extra is for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.dockerfile import required

ROOT = Path(__file__).parents[1]

OPTIONAL = {
    "asyncpg": "postgres",
    "boto3": "s3",
    "botocore": "s3",
    "coredis": "redis",
    "daily": "daily",
    "insightface": "insightface",
    "livekit": "livekit",
    "onnxruntime": "gpu",
    "runpod": "runpod",
    "torch": "gpu",
}
"""Modules that a default install lacks, and the extra that brings each."""

NEEDS_AN_EXTRA = re.compile(
    r"models\.(ditto|face\.insightface)|api\.sessions\.livekit_rooms"
    r"|worker\.(rooms\.(livekit|daily)|runpod|ingest\.livekit_agent)"
)
"""Modules of ours that may need one."""

IMPORT_ALL = """
import importlib, pkgutil, re, sys

for name in {optional!r}:
    sys.modules[name] = None  # as if it were not installed
failed = []
for package in ("common", "models", "protocol", "worker", "api"):
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, package + ".", onerror=lambda name: None):
        if re.match({extra!r}, module.name) or module.name.endswith("__main__"):
            continue
        # alembic runs migrations; compiled kernels are libraries, not modules.
        if ".migrations." in module.name or "._kernels" in module.name:
            continue
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            failed.append(f"{{module.name}}: {{error}}")
print("\\n".join(failed))
"""


def test_the_default_install_is_small():
    default = required([])
    assert {"numpy", "opencv-python-headless", "ai-edge-litert", "av", "aiortc"} <= default
    assert not {"torch", "boto3", "livekit", "daily-python", "runpod", "onnxruntime"} & default
    assert {"torch", "onnxruntime-gpu"} <= required(["gpu"])
    everything = required(["all"])
    for extra in ("gpu", "livekit", "daily", "runpod", "postgres", "s3", "redis"):
        assert required([extra]) <= everything


def test_everything_a_default_install_needs_is_there():
    program = IMPORT_ALL.format(optional=sorted(OPTIONAL), extra=NEEDS_AN_EXTRA.pattern)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("command", [["worker", "talk"], ["worker", "serve"], ["api", "serve"]])
def test_commands_start_without_what_an_extra_brings(command):
    package, *arguments = command
    program = (
        f"import runpy, sys\nfor name in {sorted(OPTIONAL)!r}: sys.modules[name] = None\n"
        f"sys.argv[1:] = {[*arguments, '--help']!r}\n"
        f"runpy.run_module({package!r}, run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout
