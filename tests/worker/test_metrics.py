from __future__ import annotations

import threading

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from worker.metrics import Metrics

NAMES = {
    "avatar_ready": ("gauge", set()),
    "avatar_sessions_active": ("gauge", set()),
    "avatar_sessions": ("counter", {"outcome"}),
    "avatar_session_join_seconds": ("histogram", set()),
    "avatar_first_frame_seconds": ("histogram", set()),
    "avatar_playback_latency_seconds": ("histogram", set()),
    "avatar_interrupt_latency_seconds": ("histogram", set()),
    "avatar_frame_render_seconds": ("histogram", {"stage"}),
    "avatar_frames_dropped": ("counter", {"reason"}),
    "avatar_av_offset_seconds": ("gauge", set()),
    "avatar_audio_buffer_seconds": ("gauge", set()),
    "avatar_transport_reconnects": ("counter", {"transport", "kind"}),
    "avatar_rpc_failures": ("counter", {"method"}),
}


def use_all(metrics: Metrics) -> None:
    metrics.set_ready(True)
    metrics.set_sessions(2)
    metrics.session_ended("expired")
    metrics.observe_join(1.2)
    metrics.observe_first_frame(0.1)
    metrics.observe_playback_latency(0.2)
    metrics.observe_interrupt(0.03)
    metrics.observe_stage("warp", 0.01)
    metrics.frame_dropped("late", 3)
    metrics.set_av_offset(-0.012)
    metrics.set_audio_buffer(0.32)
    metrics.transport_reconnected("livekit", "resume")
    metrics.rpc_failed("lk.clear_buffer")


def test_names_types_and_labels() -> None:
    metrics = Metrics()
    use_all(metrics)
    families = {
        family.name: family
        for family in text_string_to_metric_families(metrics.exposition().decode())
    }
    assert {name for name in families if not name.endswith("_created")} == set(NAMES)
    for name, (kind, labels) in NAMES.items():
        assert families[name].type == kind
        for sample in families[name].samples:
            assert set(sample.labels) - {"le"} == labels, "no label tells sessions apart"


def test_values() -> None:
    metrics = Metrics()
    use_all(metrics)
    value = metrics.registry.get_sample_value
    assert value("avatar_ready") == 1
    assert value("avatar_sessions_total", {"outcome": "expired"}) == 1
    assert value("avatar_frames_dropped_total", {"reason": "late"}) == 3
    assert value("avatar_av_offset_seconds") == pytest.approx(-0.012)
    metrics.set_ready(False)
    assert value("avatar_ready") == 0


def test_buckets_part_at_the_targets() -> None:
    metrics = Metrics()
    use_all(metrics)
    value = metrics.registry.get_sample_value
    for name, target in (
        ("avatar_first_frame_seconds", "0.12"),
        ("avatar_first_frame_seconds", "0.25"),
        ("avatar_interrupt_latency_seconds", "0.08"),
        ("avatar_session_join_seconds", "2.0"),
    ):
        assert value(f"{name}_bucket", {"le": target}) is not None


def test_workers_do_not_share_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.set_sessions(5)
    assert other.registry.get_sample_value("avatar_sessions_active") == 0
    assert not [family for family in REGISTRY.collect() if family.name.startswith("avatar_")]


def test_threads_may_report_at_once() -> None:
    metrics = Metrics()
    threads = [
        threading.Thread(target=lambda: [metrics.observe_stage("warp", 0.01) for _ in range(500)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count = metrics.registry.get_sample_value(
        "avatar_frame_render_seconds_count", {"stage": "warp"}
    )
    assert count == 2000
