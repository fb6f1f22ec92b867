"""What the machine's GPU, its driver and torch say about themselves, and whether they fit.

Of interest to the engine ditto alone, and torch has to be installed.
"""

from __future__ import annotations

import ctypes
import subprocess
import warnings
from dataclasses import dataclass

MEMORY_NEEDED_GB = 6.0
"""Free GPU memory the engine ditto needs for its first session, in 10^9 bytes: above all torch's
context and kernels. Further sessions are small beside it."""

CUDA_WHEEL = "pip install --force-reinstall 'torch==2.13.*'"


@dataclass(frozen=True)
class GpuFacts:
    """Facts about one GPU; None where they cannot be had."""

    torch: str
    torch_cuda: str | None
    """CUDA version torch was built for; None for a CPU build."""
    driver: str | None
    """Version of the NVIDIA driver, such as 580.65.06."""
    driver_cuda: tuple[int, int] | None
    """Newest CUDA version the driver runs; None without a driver."""
    count: int = 0
    index: int = 0
    name: str | None = None
    capability: tuple[int, int] | None = None
    built_for: tuple[str, ...] = ()
    """What torch has kernels for: ``sm_90`` is machine code, ``compute_120`` compiles at load."""
    free_bytes: int | None = None
    total_bytes: int | None = None


def gpu_facts(index: int = 0) -> GpuFacts:
    """Look at GPU ``index``. Raises nothing: what cannot be asked is None."""
    import torch

    with warnings.catch_warnings():  # torch warns of an old driver; the refusal says it better
        warnings.simplefilter("ignore")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    name = capability = free = total = None
    built_for: tuple[str, ...] = ()
    if index < count:
        name = torch.cuda.get_device_name(index)
        capability = torch.cuda.get_device_capability(index)
        built_for = tuple(torch.cuda.get_arch_list())
        try:
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError:  # as full as that, or held in exclusive mode by another process
            free = total = None
    return GpuFacts(
        torch=str(torch.__version__),
        torch_cuda=torch.version.cuda,
        driver=driver_version(),
        driver_cuda=driver_cuda_version(),
        count=count,
        index=index,
        name=name,
        capability=capability,
        built_for=built_for,
        free_bytes=free,
        total_bytes=total,
    )


def gpu_refusal(facts: GpuFacts) -> str | None:
    """Why ditto cannot run on this GPU, in one sentence with the remedy; None: it can."""
    if facts.torch_cuda is None:
        return f"torch {facts.torch} is a build for the CPU; install the one for CUDA: {CUDA_WHEEL}"
    if facts.driver_cuda is None:
        return (
            "no NVIDIA driver is to be found; install one that runs CUDA "
            f"{facts.torch_cuda} or newer, and start containers with --gpus all"
        )
    if facts.driver_cuda[0] < int(facts.torch_cuda.split(".")[0]):
        return (
            f"the NVIDIA driver {facts.driver or ''} runs CUDA up to "
            f"{_dotted(facts.driver_cuda)}, but torch {facts.torch} needs CUDA "
            f"{facts.torch_cuda}; update the driver"
        ).replace("  ", " ")
    if facts.count == 0:
        return (
            "the NVIDIA driver shows no usable GPU; see what nvidia-smi says, and whether "
            "CUDA_VISIBLE_DEVICES hides it"
        )
    if facts.index >= facts.count:
        return (
            f"there is no GPU {facts.index}, only {facts.count} (counted from 0); "
            "choose another with AVATAR_WORKER_DEVICE"
        )
    if facts.capability is not None and not runs_on(facts.capability, facts.built_for):
        return (
            f"{facts.name} has compute capability {_dotted(facts.capability)}, which torch "
            f"{facts.torch} was not built for ({', '.join(facts.built_for)}); use another GPU or "
            "another build of torch"
        )
    if facts.free_bytes is None:
        return f"{facts.name} does not tell its free memory; end what else is using it"
    if facts.free_bytes < MEMORY_NEEDED_GB * 1e9:
        return (
            f"{facts.name} has {facts.free_bytes / 1e9:.1f} GB of free memory and the engine "
            f"ditto needs {MEMORY_NEEDED_GB:.1f} GB; end what else is using it, or choose another "
            "GPU with AVATAR_WORKER_DEVICE"
        )
    return None


def runs_on(capability: tuple[int, int], built_for: tuple[str, ...]) -> bool:
    """Whether code built for ``built_for`` runs on a GPU of this compute capability.

    Machine code (``sm_86``) runs on its own major generation from its minor on; intermediate code
    (``compute_86``) on everything from there on; ``sm_90a`` on exactly its own kind.
    """
    if not built_for:
        return True  # nothing known against it
    have = capability[0] * 10 + capability[1]
    for target in built_for:
        kind, _, number = target.partition("_")
        if not number.isdigit():
            fits = number[:-1].isdigit() and int(number[:-1]) == have
        elif kind == "compute":
            fits = int(number) <= have
        else:
            fits = int(number) <= have and int(number) // 10 == capability[0]
        if fits:
            return True
    return False


def driver_version() -> str | None:
    """The NVIDIA driver's version as nvidia-smi tells it; None without one."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.split()
    return lines[0] if lines else None


def driver_cuda_version() -> tuple[int, int] | None:
    """The newest CUDA version the driver runs, asked from the driver's library itself."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
        number = ctypes.c_int(0)
        if library.cuDriverGetVersion(ctypes.byref(number)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    # 1000 * major + 10 * minor, says the CUDA driver API.
    return (number.value // 1000, number.value % 1000 // 10) if number.value else None


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
