import os

import pytest

from worker.process.cores import usable_cores


@pytest.fixture
def eight(monkeypatch):
    """A process that may run on eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def test_what_the_process_may_run_on(eight, tmp_path):
    assert usable_cores(tmp_path / "none") == 8


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("9900000 100000", 8), ("?", 8)],
)
def test_a_containers_quota(eight, tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_cores(tmp_path / "cpu.max") == cores
