"""The start-up check, with GPUs this machine need not have."""

import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from models.ditto import files
from models.engine import EngineError
from worker.cli import main
from worker.diagnostics import check, gpu_facts, software_facts
from worker.engines import engine_loader, engine_name
from worker.settings import load_settings

HOPPER_BUILD = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.fixture
def gpu(monkeypatch):
    """A healthy GPU with its driver; call it with what is different."""

    def install(
        *,
        torch_cuda="13.0",
        driver_cuda=(13, 0),
        count=1,
        capability=(9, 0),
        built_for=HOPPER_BUILD,
        free=80.0,
    ):
        def memory(index):
            if free is None:
                raise RuntimeError("CUDA error: out of memory")
            return int(free * 1e9), int(141e9)

        monkeypatch.setattr(torch.version, "cuda", torch_cuda)
        monkeypatch.setattr(gpu_facts, "driver_version", lambda: "580.65.06")
        monkeypatch.setattr(gpu_facts, "driver_cuda_version", lambda: driver_cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: "NVIDIA Test 141GB")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=0: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(built_for))
        monkeypatch.setattr(torch.cuda, "mem_get_info", memory)

    return install


@pytest.fixture
def onnxruntime(monkeypatch):
    """An onnxruntime that is installed, as packages and by what it says."""

    def install(versions, providers):
        fake = SimpleNamespace(get_available_providers=lambda: providers)
        real = software_facts.version
        monkeypatch.setattr(
            software_facts,
            "version",
            lambda name: versions.get(name) if name.startswith("onnxruntime") else real(name),
        )
        monkeypatch.setattr(software_facts.importlib, "import_module", lambda name: fake)

    return install


def run(monkeypatch, capsys, *options, device="cuda"):
    """The check of a machine that has ditto's files."""
    monkeypatch.setattr(files, "missing_files", lambda: [])
    monkeypatch.setenv("AVATAR_WORKER_ENGINE", "ditto")
    monkeypatch.setenv("AVATAR_WORKER_DEVICE", device)
    status = main(["check", "--no-measure", *options])
    return status, *capsys.readouterr()


def test_a_gpu_that_fits_is_described(gpu, monkeypatch, capsys):
    gpu()
    status, out, err = run(monkeypatch, capsys)
    assert (status, err) == (0, "")
    assert "NVIDIA 580.65.06, CUDA up to 13.0" in out
    assert "NVIDIA Test 141GB, compute capability 9.0, 80.0 of 141.0 GB free" in out


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        ({"torch_cuda": None, "count": 0}, "is a build for the CPU"),
        ({"driver_cuda": None, "count": 0}, "no NVIDIA driver is to be found"),
        (
            {"driver_cuda": (12, 8), "count": 0},
            "runs CUDA up to 12.8, but torch",
        ),
        ({"count": 0}, "shows no usable GPU"),
        ({"capability": (7, 0)}, "compute capability 7.0, which torch"),
        ({"free": 0.3}, "0.3 GB of free memory and the engine ditto needs 6.0 GB"),
        ({"free": None}, "does not tell its free memory"),
    ],
)
def test_a_gpu_that_does_not_fit_is_refused_in_one_sentence(
    gpu, monkeypatch, capsys, difference, sentence
):
    gpu(**difference)
    status, _, err = run(monkeypatch, capsys)
    assert status == 1
    assert err.startswith("worker: AVATAR_WORKER_DEVICE=cuda: ")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert run(monkeypatch, capsys, "--strict")[0] == 1


def test_a_gpu_that_is_not_there_is_named_by_number(gpu, monkeypatch, capsys):
    gpu(count=2)
    assert run(monkeypatch, capsys, device="cuda:1")[0] == 0
    status, _, err = run(monkeypatch, capsys, device="cuda:2")
    assert status == 1
    assert "there is no GPU 2, only 2" in err


def test_a_machine_without_a_gpu_is_fine_unless_one_is_asked_for(gpu, monkeypatch, capsys):
    gpu(driver_cuda=None, count=0)
    status, out, err = run(monkeypatch, capsys, "--strict", device="auto")
    assert (status, err) == (0, "")
    assert "cpu (auto asked for)" in out


def test_a_gpu_that_goes_unused_is_warned_of(gpu, monkeypatch, capsys):
    gpu(driver_cuda=(12, 4), count=0)
    status, out, _ = run(monkeypatch, capsys, device="auto")
    assert status == 0
    assert "the CPU is used although there is a GPU driver" in out
    status, _, err = run(monkeypatch, capsys, "--strict", device="auto")
    assert status == 1
    assert "update the driver" in err


def test_the_cpu_build_of_onnxruntime_over_the_gpu_build_is_warned_of(
    gpu, onnxruntime, monkeypatch, capsys
):
    gpu()
    both = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}
    onnxruntime(both, ["CPUExecutionProvider"])
    status, out, _ = run(monkeypatch, capsys)
    assert status == 0
    assert "lies over onnxruntime-gpu's files" in out
    assert run(monkeypatch, capsys, "--strict")[0] == 1

    onnxruntime(both, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert run(monkeypatch, capsys, "--strict")[0] == 0


def test_the_cpu_build_alone_is_warned_of_on_a_gpu_only(gpu, onnxruntime, monkeypatch, capsys):
    gpu()
    onnxruntime({"onnxruntime": "1.31.1"}, ["CPUExecutionProvider"])
    assert "onnxruntime is the CPU build" in run(monkeypatch, capsys)[1]
    assert run(monkeypatch, capsys, "--strict", device="cpu")[0] == 0


def test_missing_codecs_are_named(monkeypatch, capsys):
    monkeypatch.setitem(software_facts.ENCODERS, "h264_of_the_future", "better video")
    status, out, _ = run(monkeypatch, capsys, device="cpu")
    assert status == 0
    assert "cannot encode better video (h264_of_the_future)" in out


def test_an_offline_folder_without_the_files_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(tmp_path))
    status, out, err = run(monkeypatch, capsys, device="cpu")
    assert status == 1
    assert "0 of 4 files whole" in out
    assert "lacks face_detection_short_range.tflite" in err


def test_json_holds_it_all(gpu, monkeypatch, capsys):
    gpu(free=0.1)
    status, out, _ = run(monkeypatch, capsys, "--json")
    report = json.loads(out)
    assert (status, report["ok"], report["engines"]) == (1, False, [])
    assert "0.1 GB of free memory" in report["refusal"]
    assert report["facts"]["driver"] == "NVIDIA 580.65.06, CUDA up to 13.0"


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((8, 6), ("sm_80",), True),
        ((8, 0), ("sm_86",), False),
        ((9, 0), ("sm_80", "sm_86"), False),
        ((12, 0), ("sm_90", "compute_90"), True),
        ((8, 0), ("compute_90",), False),
        ((9, 0), ("sm_90a",), True),
        ((10, 0), ("sm_90a",), False),
    ],
)
def test_code_runs_on_its_own_generation_and_intermediate_code_on_later_ones(
    capability, built_for, runs
):
    assert gpu_facts.runs_on(capability, built_for) is runs


def test_the_measured_speed_and_capacity_belong_together(monkeypatch, capsys):
    monkeypatch.setenv("AVATAR_WORKER_CANVAS__SCALE", "0.25")
    monkeypatch.setattr(check, "MEASURE_S", 0.5)
    assert main(["check", "--json"]) == 0
    (speed,) = json.loads(capsys.readouterr().out)["engines"]
    assert (speed["engine"], speed["device"], speed["size"]) == ("warp", "cpu", "320x240")
    assert speed["chosen"]
    assert speed["frames_per_second"] > 0
    assert speed["sessions"] <= max(1, int(speed["frames_per_second"] * 0.75 / 25))


def test_what_breaks_while_loading_is_one_sentence(gpu, monkeypatch, capsys):
    gpu()
    monkeypatch.setattr(files, "missing_files", lambda: [])
    monkeypatch.setenv("AVATAR_WORKER_ENGINE", "ditto")
    monkeypatch.setenv("AVATAR_WORKER_DEVICE", "cuda")

    def broken(settings):
        def load():
            raise RuntimeError("CUDA error: no kernel image is available\nlong explanation")

        return load

    monkeypatch.setattr(check, "engine_loader", broken)
    assert main(["check"]) == 1
    err = capsys.readouterr().err
    assert err == (
        "worker: the engine ditto does not load on cuda: CUDA error: no kernel image is available\n"
    )


def test_the_engine_of_a_cpu_asks_for_no_torch(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("AVATAR_WORKER_ENGINE", "warp")
    monkeypatch.setenv("AVATAR_WORKER_DEVICE", "cuda:3")
    assert main(["check", "--no-measure", "--strict"]) == 0
    assert "torch" not in capsys.readouterr().out


def test_ditto_without_torch_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("AVATAR_WORKER_ENGINE", "ditto")
    assert main(["check", "--no-measure"]) == 1
    remedy = "the engine ditto needs torch, which is not installed: pip install '.[gpu]'"
    assert capsys.readouterr().err == f"worker: {remedy}\n"
    with pytest.raises(EngineError, match=re.escape(remedy)):
        engine_loader(load_settings())()


@pytest.mark.parametrize(
    ("torch_there", "files_there", "cuda", "device", "name"),
    [
        (True, True, True, "auto", "ditto"),
        (True, True, True, "cpu", "warp"),
        (True, True, False, "auto", "warp"),
        (True, False, True, "auto", "warp"),
        (False, True, True, "auto", "warp"),
    ],
)
def test_the_engine_that_a_machine_gets_by_itself(
    monkeypatch, tmp_path, torch_there, files_there, cuda, device, name
):
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(tmp_path))
    (tmp_path / "ditto").mkdir()
    missing = [] if files_there else ["decoder.pth"]
    monkeypatch.setattr(files, "missing_files", lambda: missing)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    if not torch_there:
        monkeypatch.setitem(sys.modules, "torch", None)
    assert engine_name(load_settings(device=device)) == name
    assert engine_name(load_settings(device=device, engine="ditto")) == "ditto"
