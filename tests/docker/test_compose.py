"""compose.yaml, read as YAML."""

from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="needs PyYAML to read compose.yaml")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def test_the_three_parts(services):
    assert set(services) == {"api", "worker", "livekit"}
    for name, service in services.items():
        image = service["image"]
        assert ":" in image, f"{name} is not pinned"
        assert not image.endswith(":latest")
        assert service["healthcheck"]["test"][0] == "CMD"


def test_both_are_built_here_and_the_worker_gets_a_gpu(services):
    for name in ("api", "worker"):
        build = services[name]["build"]
        assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    worker = services["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_the_secret_comes_from_outside_and_is_asked_for(services):
    assert services["worker"]["environment"]["AVATAR_WORKER_SECRET"].startswith(
        "${AVATAR_WORKER_SECRET:?"
    )


def test_the_workers_variables_are_settings(services, monkeypatch):
    from worker.settings import load_settings

    for name, value in services["worker"]["environment"].items():
        default = value.partition(":-")[2].rstrip("}") or "0123456789abcdef"
        monkeypatch.setenv(name, default)
    settings = load_settings()
    assert settings.public_url == "http://localhost:8080"
    assert settings.public_ws_url == "ws://worker:8765/v1/ws"


def test_the_control_planes_variables_are_settings(services, monkeypatch):
    from api.settings import load_settings

    for name, value in services["api"]["environment"].items():
        default = value.partition(":-")[2].rstrip("}") if value.startswith("${") else value
        monkeypatch.setenv(name, default or "0123456789abcdef")
    settings = load_settings()
    assert settings.local.workers == ["http://worker:8080"]
    assert settings.livekit.worker_url == "ws://livekit:7880"
    assert settings.gateway_url == "ws://localhost:8000/v1/ws"


def test_one_secret_for_both_sides(services):
    given = services["worker"]["environment"]["AVATAR_WORKER_SECRET"]
    assert services["api"]["environment"]["AVATAR_API_LOCAL__SECRET"] == given


def test_stopping_leaves_time_to_drain(services):
    from worker.settings import WorkerSettings

    default = WorkerSettings.model_fields["drain_timeout_s"].default
    assert int(services["worker"]["stop_grace_period"].rstrip("s")) > default


def test_ports(services):
    assert {port.rpartition(":")[2] for port in services["worker"]["ports"]} == {"8080", "8765"}
    assert services["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert all(port.startswith("127.0.0.1:") for port in services["worker"]["ports"])
    assert services["livekit"]["ports"] == ["7880:7880", "7881:7881", "7882:7882/udp"]
    assert "--dev" in services["livekit"]["command"].split()
