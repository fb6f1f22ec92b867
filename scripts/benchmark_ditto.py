"""The photoreal engine stage by stage: ``scripts/benchmark.py ditto``.

Weights are random and of true shape: a GPU takes the same time for them as for trained ones. What
is called is what the engine calls, except the speech network where its file is not there: a network
of its layers stands in. Needs torch and numpy only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.ditto.audio.hubert import FEATURES, WINDOW_SAMPLES
from models.ditto.motion.actor import DittoActor
from models.ditto.motion.key_points import POINTS, Source
from models.ditto.motion.motion_generator import MotionGenerator
from models.ditto.motion.motion_windows import CHANNELS, Condition, emotion, motion_row
from models.ditto.networks.compiled import fixed_batches, painter, window_sampler
from models.ditto.networks.diffusion import ROWS, DdimSampler
from models.ditto.networks.ditto_networks import DittoNetworks, DittoSizes
from models.ditto.render.paste_back import Paster, Placement, soft_mask
from models.ditto.render.renderer import Renderer
from models.engine import FPS, SPEECH_RATE, Canvas

OVERLAP, STEPS = 75, 10
CONDITION = 1103
REPEATS = 5

PEAKS = {
    "H100": {"TFLOP/s": 989.0, "GB/s": 3350.0},
    "H200": {"TFLOP/s": 989.0, "GB/s": 4800.0},
}
"""Dense 16-bit matrix products and memory as NVIDIA's data sheets of the SXM modules have them."""


@dataclass(frozen=True)
class Device:
    """Where it runs, and how to wait for it."""

    device: torch.device
    wait: Callable[[], None]
    allocated: Callable[[], int]
    """Bytes of tensors."""
    reserved: Callable[[], int]
    """Bytes taken from the device, recorded graphs included."""

    @classmethod
    def of(cls, name: str) -> Device:
        """By name; ``auto`` is the GPU if there is one."""
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if torch.device(name).type == "cuda":
            return cls(
                torch.device(name),
                torch.cuda.synchronize,
                torch.cuda.memory_allocated,
                torch.cuda.memory_reserved,
            )
        return cls(torch.device(name), lambda: None, lambda: 0, lambda: 0)

    def ms(self, function: Callable[[], Any], seconds: float) -> float:
        """Milliseconds of a call: the median of ``REPEATS`` rows of calls."""
        function()
        self.wait()
        begun = time.perf_counter()
        function()
        self.wait()
        once = max(time.perf_counter() - begun, 1e-6)
        calls = max(1, min(200, round(seconds / REPEATS / once)))
        times = []
        for _ in range(REPEATS if calls > 1 else 1):
            begun = time.perf_counter()
            for _ in range(calls):
                function()
            self.wait()
            times.append((time.perf_counter() - begun) / calls)
        return statistics.median(times) * 1000


@dataclass(frozen=True)
class Cost:
    """What an item of a stage takes at least."""

    flop: float
    bytes: float
    """If every layer reads its input once and writes its answer once."""
    weights: float = 0
    """Bytes that layers read once for a whole batch."""

    @classmethod
    def of(cls, function: Callable[[], Any], modules: Sequence[nn.Module], width: int) -> Cost:
        """Counted in a call on the meta device; ``width`` is the bytes of a number."""
        moved = weights = 0

        def count(module: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
            nonlocal moved, weights
            moved += sum(x.numel() for x in (*given, answer) if isinstance(x, Tensor)) * width
            weights += sum(x.numel() for x in module.parameters()) * width

        leaves = [m for module in modules for m in module.modules() if not list(m.children())]
        hooks = [leaf.register_forward_hook(count) for leaf in leaves]
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            function()
        for hook in hooks:
            hook.remove()
        return cls(counter.get_total_flops(), moved, weights)


class StandInHubert(nn.Module):
    """The layers of HuBERT large (Hsu et al. 2021), random: one window of speech to 20 rows."""

    def __init__(self, layers: int = 24, width: int = FEATURES) -> None:
        super().__init__()
        kernels, strides = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
        self.ears = nn.ModuleList(
            nn.Conv1d(512 if i else 1, 512, kernel, stride)
            for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True))
        )
        self.project = nn.Linear(512, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 16, 4 * width, 0.0, "gelu", batch_first=True)
            for _ in range(layers)
        )
        self.eval().requires_grad_(False)

    def forward(self, windows: Tensor) -> Tensor:
        """float32 (n, 6480) → (n, 20, 1024)."""
        x = windows[:, None]
        for ear in self.ears:
            x = F.gelu(ear(x))
        x = self.project(x.transpose(1, 2))
        for layer in self.layers:
            x = layer(x)
        return x


@dataclass(frozen=True)
class StandInIdentity:
    """What actors and the renderer ask of an identity."""

    canvas: Canvas
    volume: Tensor
    points: Tensor
    placement: Placement
    source: Source
    reference: Tensor
    condition: Condition


class Bench:
    """The engine's parts on one device."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.seconds = arguments.seconds / 20
        self.at = Device.of(arguments.device)
        device = self.at.device
        self.sizes = DittoSizes.tiny() if arguments.quick else DittoSizes.official()
        width, height = (int(side) for side in arguments.sizes[0].split("x"))
        self.canvas = Canvas(width, height)
        torch.manual_seed(0)
        before = self.at.reserved()
        self.networks = DittoNetworks.build(self.sizes, device)
        # The layers of the shapes counted: nothing is computed on this device.
        self.counted = DittoNetworks.build(self.sizes, "meta")
        self.counted.decoder.fold_spectral_norm()
        self.counted.decoder.fuse()
        self.half = torch.bfloat16 if device.type == "cpu" else torch.float16
        self.naive = self._naive()
        self.sampler = DdimSampler(STEPS, device)
        self.identity = self._identity()

        networks, render = self.networks, painter(self.networks)
        self.dtype = next(networks.decoder.parameters()).dtype
        fast = {"compile": not arguments.no_compile}
        sizes = tuple(arguments.batches)

        def paint(volume: Tensor, source: Tensor, driving: Tensor) -> Tensor:
            return render(volume, source, networks.stitch(source, driving))

        _say("compiling and recording: some minutes the first time")
        begun = time.perf_counter()
        self.paint = fixed_batches(paint, device, sizes, **fast)
        # Each alone, in the layout it has inside of the painter.
        self.warp = fixed_batches(
            lambda volume, source, driving: networks.warp(
                volume.to(memory_format=torch.channels_last_3d), source, driving
            ),
            device,
            sizes[-1:],
            **fast,
        )
        self.decode = fixed_batches(
            lambda x: networks.decoder(x.to(memory_format=torch.channels_last)),
            device,
            sizes[-1:],
            **fast,
        )
        sampler = window_sampler(networks.lmdm, self.sampler)
        self.sample = fixed_batches(sampler, device, sizes, **fast)
        layers = 1 if arguments.quick else 24
        with torch.device(device):
            hubert = StandInHubert(layers)
        # float32 as released. The fused layers that torch has for inference are not for graphs.
        torch.backends.mha.set_fastpath_enabled(False)
        self.hubert = fixed_batches(hubert, device, sizes, compile=False)
        self.paint.warm(*self.faces(1))
        self.sample.warm(*self.windows(1))
        self.hubert.warm(torch.zeros(1, WINDOW_SAMPLES, device=device))
        self.warm_s = time.perf_counter() - begun
        self.shared_bytes = self.at.reserved() - before

        def hear(windows: np.ndarray) -> np.ndarray:
            return self.hubert(torch.from_numpy(windows).to(device)).float().cpu().numpy()

        self.generator = MotionGenerator(
            hear, self.sample, self.sampler, device, overlap=OVERLAP, batch=sizes[-1],
            encoder_batches=sizes,
        )  # fmt: skip
        self.batch = sizes[-1]
        self.renderer = Renderer(self.paint, device, self.batch)

    def _identity(self) -> StandInIdentity:
        side, device = self.sizes.image, self.at.device
        image = torch.rand(1, 3, side, side, device=device)
        with torch.inference_mode():
            volume = self.networks.appearance(image)[0]
            motion = self.networks.motion(image)
        motion = type(motion)(*(part.float().cpu() for part in motion))
        source = Source.of(motion)
        condition = Condition(emotion(4)[None], torch.rand(1, 2), torch.rand(1, 6), motion.kp[0])
        picture = np.zeros((self.canvas.height, self.canvas.width, 3), np.uint8)
        scale = 0.8 * self.canvas.height / 512
        left = (self.canvas.width - 512 * scale) / 2
        to_picture = np.array([[scale, 0, left], [0, scale, 8], [0, 0, 1]])
        return StandInIdentity(
            self.canvas,
            volume.to(torch.float32 if device.type == "cpu" else self.half),
            source.points[0].to(device),
            Placement.of(picture, to_picture, device),
            source,
            motion_row(motion)[0],
            condition,
        )

    def faces(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Arguments of the painter."""
        volume, points = self.identity.volume, self.identity.points
        driving = points + 0.01 * torch.randn(count, POINTS, 3, device=self.at.device)
        return (
            volume.expand(count, *volume.shape).contiguous(),
            points.expand(count, -1, -1).contiguous(),
            driving,
        )

    def windows(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Arguments of the sampler."""
        shapes = ((ROWS, CHANNELS), (CHANNELS,), (ROWS, CONDITION), (STEPS - 1, ROWS, CHANNELS))
        made = (torch.randn(count, *shape, device=self.at.device) for shape in shapes)
        x, start, cond, noise = made
        return x, start, cond, noise

    def _naive(self) -> dict[str, float]:
        """Milliseconds of a frame and of a window in the plain way: one at a time, 16-bit autocast,
        the two passes of guidance one after the other, the picture pasted by numpy on the host."""
        networks, device = self.networks, self.at.device
        side = self.sizes.image // 4
        volume = torch.randn(1, self.sizes.channels, self.sizes.depth, side, side, device=device)
        points = torch.rand(1, POINTS, 3, device=device) - 0.5
        mask = soft_mask()[:, :, None]
        frame = np.zeros((max(512, self.canvas.height), max(512, self.canvas.width), 3), np.uint8)

        @torch.inference_mode()
        def render() -> None:
            driving = networks.stitch(points, points + 0.01)
            with torch.autocast(device.type, self.half):
                picture = networks.decoder(networks.warp(volume, points, driving))
            face = picture[0].float().cpu().numpy().transpose(1, 2, 0) * 255
            if len(face) != 512:
                face = np.zeros((512, 512, 3), np.float32)
            box = frame[:512, :512]
            frame[:512, :512] = np.clip(mask * face + (1 - mask) * box, 0, 255).astype(np.uint8)

        x, start, cond, noise = self.windows(1)
        sampler = DdimSampler(STEPS, device)

        @torch.inference_mode()
        def think() -> None:
            def denoise(noisy: Tensor, level: Tensor) -> Tensor:
                heard, _ = networks.lmdm(noisy, start, cond, level)
                _, unheard = networks.lmdm(noisy, start, cond, level)
                return unheard + 2.0 * (heard - unheard)

            sampler.sample(denoise, x, noise).cpu()

        _say("the plain way")
        return {"frame ms": self.at.ms(render, self.seconds),
                "window ms": self.at.ms(think, self.seconds)}  # fmt: skip

    def limits(self) -> dict[str, float]:
        """What this device reaches at most: a matrix product, and a copy."""
        _say("limits of the device")
        device, n = self.at.device, 512 if self.at.device.type == "cpu" else 8192
        dtypes = {"float32": torch.float32}
        if device.type != "cpu":
            dtypes["16 bit"] = self.half
        found: dict[str, float] = {}
        for name, dtype in dtypes.items():
            a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
            ms = self.at.ms(lambda a=a, b=b: a @ b, self.seconds)  # type: ignore[misc]
            found[f"{name} TFLOP/s"] = 2 * n**3 / ms / 1e9
        source = torch.empty((64 << 20) if device.type == "cpu" else (2 << 30), dtype=torch.uint8,
                             device=device)  # fmt: skip
        target = torch.empty_like(source)
        ms = self.at.ms(lambda: target.copy_(source), self.seconds)
        found["GB/s"] = 2 * source.numel() / ms / 1e6
        return found

    def stages(self, limits: dict[str, float]) -> list[dict[str, Any]]:
        """One row per stage, at the largest batch."""
        count, meta, networks = self.batch, self.counted, self.networks
        width = self.dtype.itemsize
        volume, source, driving = (x.to("meta") for x in self.faces(1))
        volume = volume.float()
        feature = meta.warp(volume, source, driving)
        window = [x.to("meta") for x in self.windows(1)]
        meta_sample = window_sampler(meta.lmdm, DdimSampler(STEPS, "meta"))
        hubert = StandInHubert(1 if self.arguments.quick else 24).to("meta")
        speech = torch.empty(1, WINDOW_SAMPLES, device="meta")
        image = torch.rand(1, 3, *(self.sizes.image,) * 2, device=self.at.device)
        with torch.inference_mode():
            features = networks.warp(*self.faces(count))
        faces = self.faces(count)
        windows = self.windows(count)
        sound = torch.zeros(count, WINDOW_SAMPLES, device=self.at.device)
        paster, placements = Paster(self.at.device), [self.identity.placement] * count
        pictures = self.paint(*faces)
        pasted = paster.paste(pictures, placements)

        @torch.inference_mode()
        def portrait() -> None:
            networks.appearance(image)
            networks.motion(image)

        def seen() -> None:
            meta.appearance(image.to("meta"))
            meta.motion(image.to("meta"))

        def cost(call: Callable[[], Any], modules: Sequence[nn.Module], width: int) -> Cost:
            return Cost.of(call, modules, width)

        # fmt: off
        plan: list[tuple[str, int, Callable[[], Any], Cost | None, str]] = [
            ("portrait: appearance, motion", 1, portrait,
             cost(seen, [meta.appearance, meta.motion], 4), "float32"),
            ("speech: HuBERT stand-in, a window", count, lambda: self.hubert(sound),
             cost(lambda: hubert(speech), [hubert], 4), "float32"),
            ("motion: 10 steps, a window", count, lambda: self.sample(*windows),
             cost(lambda: meta_sample(*window), [meta.lmdm], 4), "float32"),
            ("warp", count, lambda: self.warp(*faces),
             cost(lambda: meta.warp(volume, source, driving), [meta.warp], width), "16 bit"),
            ("decoder", count, lambda: self.decode(features),
             cost(lambda: meta.decoder(feature), [meta.decoder], width), "16 bit"),
            ("stitch, warp, decoder as one", count, lambda: self.paint(*faces),
             cost(lambda: meta.decoder(meta.warp(volume, source, driving)),
                  [meta.warp, meta.decoder], width), "16 bit"),
            ("paste-back to I420", count, lambda: paster.paste(pictures, placements), None, ""),
            ("copy to the host", count, lambda: pasted.cpu(),
             Cost(0, pasted[0].numel()), ""),
        ]
        # fmt: on
        rows = []
        for name, batch, call, least, kind in plan:
            _say(name)
            ms = self.at.ms(call, self.seconds)
            row: dict[str, Any] = {"stage": name, "batch": batch, "ms": _round(ms),
                                   "ms each": _round(ms / batch)}  # fmt: skip
            peak = limits.get(f"{kind} TFLOP/s") or limits["float32 TFLOP/s"]
            flops = least.flop * batch / ms / 1e9 if least else 0.0
            moved = (least.bytes * batch + least.weights) / ms / 1e6 if least else 0.0
            row |= {
                "GFLOP each": _round(least.flop / 1e9) if least else "",
                "TFLOP/s": _round(flops) if flops else "",
                "GB/s": _round(moved) if moved else "",
                "% of arithmetic": round(100 * flops / peak, 1) if flops else "",
                "% of memory": round(100 * moved / limits["GB/s"], 1) if flops else "",
            }
            rows.append(row)
        rows.append(self._host_row())
        return rows

    def _host_row(self) -> dict[str, Any]:
        actors = self.speakers(1, seconds=4)
        self.generator.generate(actors)
        count = max(1, min(5, actors[0].buffered_frames))
        ms = self.at.ms(lambda: actors[0].next_poses(count, speaking=False), self.seconds)
        blank = ("GFLOP each", "TFLOP/s", "GB/s", "% of arithmetic", "% of memory")
        row = {"stage": "key points on the host, a frame", "batch": count, "ms": _round(ms)}
        return row | {"ms each": _round(ms / count)} | dict.fromkeys(blank, "")

    def speakers(self, count: int, seconds: float) -> list[DittoActor]:
        """Sessions that have heard some speech."""
        actors = [DittoActor(self.identity, self.generator, seed) for seed in range(count)]  # type: ignore[arg-type]
        for seed, actor in enumerate(actors):
            actor.push_audio(speech(seconds, seed))
        return actors

    def rates(self) -> list[dict[str, Any]]:
        """Frames a second from key points on the host to I420 on the host, by batch."""
        rows = []
        poses = self.speakers(1, 1)[0].next_poses(self.batch, speaking=False)
        for batch in self.arguments.batches:
            _say(f"{batch} frames at once")
            ms = self.at.ms(lambda n=batch: self.renderer.render(poses[:n]), self.seconds)  # type: ignore[misc]
            rate = 1000 * batch / ms
            rows.append({"batch": batch, "ms": _round(ms), "frames/s": _round(rate),
                         "sessions by rendering alone": int(rate / FPS)})  # fmt: skip
        return rows

    def sessions(self) -> list[dict[str, Any]]:
        """Sessions that all speak without a pause, in real time."""
        return [self._sessions(count) for count in self.arguments.sessions]

    def _sessions(self, count: int) -> dict[str, Any]:
        _say(f"{count} sessions")
        before = self.at.allocated()
        actors = self.speakers(count, 2)
        each = (self.at.allocated() - before) / count
        # Half the windows fall due in each of several ticks: nobody starts in step with others.
        for i, actor in enumerate(actors):
            self.generator.generate([actor])
            actor.next_poses(i % 5, speaking=True)
        handed: list[float] = []
        begun = time.perf_counter()
        until = begun + self.arguments.seconds
        for tick in itertools.count():
            due = begun + tick / FPS
            time.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() >= until:
                break
            poses = []
            for seed, actor in enumerate(actors):
                if actor.buffered_frames < 2 * FPS:
                    actor.push_audio(speech(1, tick * count + seed))
                poses.extend(actor.next_poses(1, speaking=True))
            self.renderer.render(poses)
            handed.append(time.perf_counter())
            # Motion in what is left of the tick: the sessions that run dry first.
            hungry = sorted(
                (a for a in actors if a.motion_headroom is not None),
                key=lambda a: a.motion_headroom or 0,
            )
            urgent = [a for a in hungry if (a.motion_headroom or 0) < 5]
            if urgent:
                self.generator.generate(urgent[: self.batch])
        elapsed = handed[-1] - begun if handed else 1.0
        gaps = np.diff(handed) * 1000 if len(handed) > 2 else np.array([0.0])
        rate = len(handed) / max(elapsed, 1 / FPS)
        jitter = float(np.percentile(np.abs(gaps - 1000 / FPS), 95))
        return {
            "sessions": count,
            "frames/s each": round(min(rate, float(FPS)), 2),
            "jitter p95 ms": round(jitter, 2),
            "MB each on the device": round(each / 1e6, 2),
            "holds": rate >= 24.75 and jitter <= 10,
        }

    def first_frames(self) -> list[dict[str, Any]]:
        """Speech faster than real time into an idle session, to its first picture."""
        times = []
        for trial in range(self.arguments.trials):
            actor = DittoActor(self.identity, self.generator, trial)  # type: ignore[arg-type]
            self.renderer.render(actor.next_poses(1, speaking=False))
            pcm = speech(1, trial)
            begun = time.perf_counter()
            actor.push_audio(pcm)
            self.renderer.render(actor.next_poses(1, speaking=True))
            times.append((time.perf_counter() - begun) * 1000)
        p50, p95, worst = np.percentile(times, [50, 95, 100])
        return [{"speech in, first frame out": "ms", "p50": _round(float(p50)),
                 "p95": _round(float(p95)), "max": _round(float(worst))}]  # fmt: skip

    def memory(self) -> list[dict[str, Any]]:
        """What is kept on the device."""
        weights = sum(
            x.numel() * x.element_size() for _, n in self.networks for x in n.parameters()
        )
        parts = (
            self.identity.volume,
            self.identity.placement.picture,
            self.identity.placement.still,
        )
        identity = sum(x.numel() * x.element_size() for x in parts)
        noise = self.generator.noise(0).fixed
        return [
            {"kept on the device": "weights without speech network", "MB": _round(weights / 1e6)},
            {"kept on the device": "all that is shared, buffers too",
             "MB": _round(self.shared_bytes / 1e6) or "not known on a CPU"},
            {"kept on the device": "an identity", "MB": _round(identity / 1e6)},
            {"kept on the device": "a session",
             "MB": _round(noise.numel() * noise.element_size() / 1e6)},
        ]  # fmt: skip

    def against_naive(self, rates: list[dict[str, Any]], stages: list[dict[str, Any]]) -> list[Any]:
        """Milliseconds of a spoken frame, its share of a window of motion included."""
        ours = {
            "frame ms": min(row["ms"] / row["batch"] for row in rates),
            "window ms": next(
                row["ms each"] for row in stages if row["stage"].startswith("motion")
            ),
        }
        frames = ROWS - OVERLAP
        rows: list[dict[str, Any]] = []
        for name, way in (("plain, one at a time", self.naive), ("this engine, batched", ours)):
            spoken = way["frame ms"] + way["window ms"] / frames
            rows.append({"way": name, "render ms": _round(way["frame ms"]),
                         "motion ms": _round(way["window ms"] / frames),
                         "frames/s": _round(1000 / spoken), "times": 1.0})  # fmt: skip
        rows[1]["times"] = _round(rows[1]["frames/s"] / rows[0]["frames/s"])
        return rows


def speech(seconds: float, seed: int) -> np.ndarray:
    """Something loud and soft by turns: int16 at 16 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * SPEECH_RATE)) / SPEECH_RATE
    loud = 0.5 + 0.5 * np.sin(2 * np.pi * (3 + rng.random()) * t)
    return (rng.normal(0, 4000, len(t)) * loud).clip(-32767, 32767).astype(np.int16)


def ditto(arguments: argparse.Namespace) -> dict[str, Any]:
    """All tables."""
    bench = Bench(arguments)
    arguments.device = str(bench.at.device)
    tables: dict[str, list[dict[str, Any]]] = {}

    def show(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # At once: who is interrupted keeps what was measured.
        _say(f"{name}: {json.dumps(rows)}")
        tables[name] = rows
        return rows

    limits = bench.limits()
    measured = [{"limit measured here": name, "value": _round(v)} for name, v in limits.items()]
    for chip, peaks in PEAKS.items():
        if bench.at.device.type == "cuda" and chip in torch.cuda.get_device_name():
            measured += [
                {"limit measured here": f"{name}, data sheet of the {chip}", "value": value}
                for name, value in peaks.items()
            ]
    show("Limits", measured)
    stages = show("Stages", bench.stages(limits))
    rates = show("Key points to I420 on the host", bench.rates())
    show("First frame", bench.first_frames())
    show("Memory", bench.memory())
    show("Against the plain way", bench.against_naive(rates, stages))
    show("Live sessions, all speaking", bench.sessions())
    size = "tiny networks, not the released size" if arguments.quick else "networks of true shape"
    return {
        "notes": [
            f"Random weights: {size}, {bench.dtype}; speeds are those of trained weights of this "
            "size, pictures are noise.",
            "The speech network is a stand-in of random layers of its size.",
            f"Ready after {bench.warm_s:.0f} s of compiling and recording.",
        ],
        "quick": arguments.quick,
        "picture": arguments.sizes[0],
        "dtype": str(bench.dtype),
        "tables": tables,
    }


def _round(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}") if abs(value) < 1000 else float(round(value))


def _say(what: str) -> None:
    print(f"… {what}", file=sys.stderr, flush=True)
