"""Dockerfile.cuda and .dockerignore, read as a builder reads them; no Docker is needed."""

from __future__ import annotations

import json
import re

import pytest

from tests.docker.dockerfile import (
    ROOT,
    Step,
    copy_as_the_image_does,
    ignored,
    installed_packages,
    run_there,
    steps,
    words,
)


@pytest.fixture(scope="module")
def image() -> list[Step]:
    return steps((ROOT / "Dockerfile.cuda").read_text())


def test_the_bases_are_pinned_and_new_enough_for_blackwell(image):
    arguments = dict(text.split("=", 1) for text in words(image, "ARG", "") if "=" in text)
    stages = {"builder", "kernels", "models", "runtime"}
    for base in words(image, "FROM"):
        name = re.split(r"\s+", base)[0]
        if name in stages:
            continue
        tag = arguments[re.fullmatch(r"\$\{(\w+)\}", name).group(1)]
        version = re.fullmatch(r"nvidia/cuda:(\d+)\.(\d+)\.\d+-\w+-ubuntu24\.04", tag)
        assert version is not None, f"{tag} is not pinned"
        assert (int(version[1]), int(version[2])) >= (12, 8)
    assert {step.stage for step in image if step.stage} == stages


def test_everything_copied_exists_and_reaches_the_builder(image):
    for step in image:
        if step.word != "COPY" or "--from=" in step.text:
            continue
        for source in step.text.split()[:-1]:
            assert (ROOT / source).exists(), f"COPY {source}: no such file"
            assert not ignored(source), f"COPY {source}: .dockerignore keeps it out"


def test_nothing_private_reaches_the_builder():
    private = [
        ".git/config",
        ".env",
        ".venv/bin/python",
        "out/demo.mp4",
        "tests/worker/test_cli.py",
    ]
    assert all(ignored(path) for path in private)
    assert ignored("worker/__pycache__/check.cpython-311.pyc")
    assert not ignored("common/watch.html")
    assert not ignored("models/warp/speech/weights/speech_to_motion.safetensors")


def test_everything_the_worker_package_needs_is_copied(image):
    copied = " ".join(words(image, "COPY", "runtime"))
    for needed in ("models", "worker", "runpod_handler.py", "portraits", "LICENSE"):
        assert needed in copied


def test_it_runs_as_a_user_without_rights_and_stops_by_sigterm(image):
    assert words(image, "USER") == ["avatar"]
    last = [step.word for step in image]
    assert last.index("USER") > max(n for n, word in enumerate(last) if word in ("RUN", "COPY"))
    assert "useradd" in " ".join(words(image, "RUN", "runtime"))
    assert words(image, "STOPSIGNAL") == ["SIGTERM"]


def test_it_says_its_ports_and_its_health(image):
    assert words(image, "EXPOSE") == ["8080 8765"]
    (health,) = words(image, "HEALTHCHECK")
    command = json.loads(health[health.index("[") :])
    assert "--start-period=" in health
    assert (ROOT / (command[-1].replace(".", "/") + ".py")).is_file()


def test_it_checks_first_and_replaces_itself(image):
    (entry,), (default,) = words(image, "ENTRYPOINT"), words(image, "CMD")
    assert json.loads(entry) == ["python", "-m", "worker.startup"]
    assert json.loads(default) == ["serve"]


def test_no_secret_is_baked_in(image):
    for step in image:
        if step.word in ("ENV", "ARG"):
            assert not re.search(r"SECRET|TOKEN|PASSWORD|API_KEY", step.text), step.text


def test_its_settings_are_settings(image, monkeypatch):
    from worker.settings import load_settings

    (text,) = words(image, "ENV", "runtime")
    for setting in text.split():
        name, _, value = setting.partition("=")
        if name.startswith("AVATAR_WORKER_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AVATAR_WORKER_SECRET", "0123456789abcdef")
    settings = load_settings()
    settings.require_guard()
    assert (settings.host, settings.device) == ("0.0.0.0", "cuda")
    assert {settings.http_port, settings.ws_port} == {8080, 8765}


def test_its_extras_are_extras(image):
    installed = installed_packages(image)
    assert {"torch", "onnxruntime-gpu", "aiortc", "livekit", "daily-python", "runpod"} <= installed


def test_every_script_it_runs_is_copied_before(image):
    copied = ""
    for step in image:
        if step.word == "COPY":
            copied += " " + step.text
        if step.word == "RUN":
            for script in re.findall(r"scripts/\w+\.py", step.text):
                assert script in copied, f"{script} is run before it is copied"


def test_the_files_in_the_image_are_a_whole_worker(image, tmp_path):
    copy_as_the_image_does(image, "runtime", tmp_path)
    program = """
import worker.startup, worker.server, worker.runpod.service, runpod_handler
from models.warp.speech.network import SpeechToMotion
from worker.engines import sample_portrait
SpeechToMotion.load()
assert worker.startup.RUNPOD_HANDLER.is_file()
print(worker.startup.__file__, runpod_handler.__file__, sample_portrait(), sep="\\n")
"""
    for path in run_there(tmp_path, "-c", program).splitlines():
        assert path.startswith(str(tmp_path)), path


def test_the_models_stage_has_what_its_script_needs(image, tmp_path):
    copy_as_the_image_does(image, "models", tmp_path)
    assert "--to" in run_there(tmp_path, "scripts/download_models.py", "--help")


def test_the_kernels_are_compiled_for_the_image(image, tmp_path):
    """Not those of the checkout, which may be another machine's."""
    copy_as_the_image_does(image, "builder", tmp_path)
    copy_as_the_image_does(image, "kernels", tmp_path)
    (tmp_path / "README.md").touch()
    for library in tmp_path.rglob("*.so"):
        library.unlink()
    run_there(tmp_path, "setup.py", "-q", "build_ext", "--inplace")
    assert list((tmp_path / "models" / "warp" / "render").glob("_kernels.*"))
    assert any("/build/models/warp/render" in text for text in words(image, "COPY", "runtime"))
    assert ignored("models/warp/render/_kernels.cpython-311-x86_64-linux-gnu.so")
    assert not ignored("setup.py")
