"""Compiles the renderer's kernels; everything else of the package is in pyproject.toml.

A C compiler of the machine is used where there is one (``CC``, or cc, gcc or clang on the PATH).
Elsewhere Zig's, which is a package of its own and needs nothing installed, is fetched for the time
of the build.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDER = Path("models/warp/render")
FLAGS = [
    "-O3",
    "-fPIC",
    "-g0",
    "-shared",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
]


def compiler() -> list[str] | None:
    """The machine's own C compiler, or None."""
    if given := os.environ.get("CC"):
        return shlex.split(given)
    found = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    return None if found is None else [found]


class BuildKernels(build_ext):
    """Compiles all kernels into one plain shared library, which ctypes loads."""

    def build_extension(self, ext: Extension) -> None:
        """Compile ``ext`` for any processor, or if its name says so for those with AVX2."""
        command = [*(compiler() or [sys.executable, "-m", "ziglang", "cc"]), *FLAGS]
        if ext.name.endswith("avx2"):
            # Zig spells the level of the architecture with underscores.
            command.append("-march=x86-64-v3" if compiler() else "-march=x86_64_v3")
        path = Path(self.get_ext_fullpath(ext.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([*command, *ext.sources, "-o", str(path), "-lm"], check=True)


names = ["_kernels"]
if platform.machine().lower() in ("x86_64", "amd64"):
    names.append("_kernels_avx2")
setup(
    ext_modules=[
        Extension(
            f"models.warp.render.{name}",
            sources=sorted(str(path) for path in FOLDER.glob("kernels/*.c")),
            depends=sorted(str(path) for path in FOLDER.glob("kernels/*.h")),
        )
        for name in names
    ],
    cmdclass={"build_ext": BuildKernels},
    setup_requires=[] if compiler() else ["ziglang>=0.14"],
)
