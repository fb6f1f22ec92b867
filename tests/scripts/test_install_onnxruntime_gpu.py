"""Two builds of onnxruntime in one environment, with a real pip and small wheels made here."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from scripts import install_onnxruntime_gpu as script

GPU = "['CUDAExecutionProvider', 'CPUExecutionProvider']"
CPU = "['CPUExecutionProvider']"


def wheel(folder: Path, name: str, version: str, files: dict[str, str], requires: str = "") -> None:
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = dict(files)
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (
        f"Requires-Dist: {requires}\n" if requires else ""
    )
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def runtime(providers: str) -> dict[str, str]:
    return {"onnxruntime/__init__.py": f"def get_available_providers(): return {providers}\n"}


@pytest.fixture
def python(tmp_path, monkeypatch) -> str:
    """An empty environment's interpreter, and an index that holds only the wheels made here."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel(shelf, "onnxruntime", "1.31.1", runtime(CPU) | {"onnxruntime/only_cpu.py": ""})
    wheel(shelf, "onnxruntime-gpu", "1.31.1", runtime(GPU))
    wheel(shelf, "insightface", "0.7.3", {"insightface/__init__.py": ""}, "onnxruntime")
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(shelf)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    venv.create(tmp_path / "venv", with_pip=False)
    return str(tmp_path / "venv" / "bin" / "python")


def pip(python: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *arguments], check=True)


def test_a_shadowed_gpu_build_is_told_and_put_right_beside_insightface(python, capfd):
    pip(python, "install", "onnxruntime-gpu", "insightface")
    pip(python, "install", "--force-reinstall", "--no-deps", "onnxruntime")
    assert script.main(["--python", python, "--verify"]) == 1
    assert "is the CPU build (CPUExecutionProvider)" in capfd.readouterr().err
    assert script.main(["--python", python, "--insightface"]) == 0
    assert "onnxruntime-gpu in place: CUDAExecutionProvider" in capfd.readouterr().out
    subprocess.run([python, "-c", "import insightface"], check=True)
    left = list(Path(python).parents[1].rglob("only_cpu.py"))
    assert not left, "files of the CPU build are left"


def test_a_version_that_does_not_exist_is_one_sentence(python, capfd):
    assert script.main(["--python", python, "--requirement", "onnxruntime-gpu==99"]) == 1
    (line,) = capfd.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: pip install onnxruntime-gpu==99 failed")
