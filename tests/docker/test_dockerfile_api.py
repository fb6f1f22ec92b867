"""Dockerfile.api, read as a builder reads it; no Docker is needed."""

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
    return steps((ROOT / "Dockerfile.api").read_text())


def test_everything_copied_exists_and_reaches_the_builder(image):
    for text in words(image, "COPY"):
        if "--from=" in text:
            continue
        for source in text.split()[:-1]:
            assert (ROOT / source).exists(), f"COPY {source}: no such file"
            assert not ignored(source), f"COPY {source}: .dockerignore keeps it out"
    assert not ignored("api/console/index.html")
    assert not ignored("api/store/migrations/env.py")


def test_it_runs_as_a_user_without_rights_and_keeps_its_data_in_a_volume(image):
    assert words(image, "USER") == ["avatar"]
    assert words(image, "VOLUME") == ["/data"]
    assert words(image, "STOPSIGNAL") == ["SIGTERM"]
    assert any("chown avatar:avatar /data" in text for text in words(image, "RUN", "runtime"))


def test_its_commands_are_commands(image):
    from api.cli import _parser

    (entry,), (default,) = words(image, "ENTRYPOINT"), words(image, "CMD")
    assert json.loads(entry) == ["python", "-m", "api"]
    (health,) = words(image, "HEALTHCHECK")
    for arguments in (json.loads(default), json.loads(health[health.index("[") :])[3:]):
        assert callable(_parser().parse_args(arguments).run)


def test_no_secret_is_baked_in(image):
    for step in image:
        if step.word in ("ENV", "ARG"):
            assert not re.search(r"SECRET|TOKEN|PASSWORD|API_KEY", step.text), step.text


def test_its_settings_are_settings(image, monkeypatch):
    from api.settings import load_settings

    for setting in words(image, "ENV", "runtime")[0].split():
        name, _, value = setting.partition("=")
        if name.startswith("AVATAR_API_"):
            monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.host, settings.port, str(settings.data_dir)) == ("0.0.0.0", 8000, "/data")
    assert words(image, "EXPOSE") == ["8000"]


def test_what_is_installed_is_what_can_be_installed(image):
    installed = installed_packages(image)
    assert {"fastapi", "sqlalchemy", "asyncpg", "boto3", "coredis", "livekit-api"} <= installed
    assert not {"torch", "onnxruntime-gpu"} & installed


def test_the_files_in_the_image_are_a_whole_control_plane(image, tmp_path):
    copy_as_the_image_does(image, "runtime", tmp_path)
    program = """
import api.cli, api.server, api.dispatch.choose, api.sessions.livekit_rooms, api.avatars.face_worker
import api.avatars.alignment, api.store.migrate
print(api.server.__file__)
"""
    assert run_there(tmp_path, "-c", program).startswith(str(tmp_path))


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
