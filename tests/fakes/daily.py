"""The module ``daily`` without Daily: same names and signatures, no network, any clock.

Like the real one it calls back from a thread of its own, plays sound in real time, first in, first
out, and cannot clear what it has. Where the real one ends the process or would never come back
this one raises ``NativeAbort``, which no ``except Exception`` swallows.

Each ``FakeDaily`` is one freshly imported module; its attributes below ``# The script`` decide
what happens in the call, and its methods make it happen.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from worker.clock import Clock, SystemClock, samples_to_ns

PATIENCE_S = 5.0
"""A callback that takes longer waits for something that cannot come."""

BYTES_PER_PIXEL = {"RGBA": 4, "RGB": 3, "BGRA": 4, "ARGB": 4, "ABGR": 4, "I420": 1.5}


class NativeAbort(BaseException):
    """Here the real SDK would have ended or blocked the process."""


class _Daily:
    _sdk: FakeDaily

    @classmethod
    def init(cls, worker_threads: int = 2, log_level: Any = ...) -> None:
        cls._sdk.inits += 1
        if cls._sdk.inits > 1:
            raise NativeAbort("Daily.init was called twice")

    @classmethod
    def deinit(cls) -> None:
        raise NativeAbort("Daily.deinit aborts while a track is alive")


class _EventHandler:
    def __init__(self, *args: Any) -> None:
        pass

    def on_app_message(self, message: Any, sender: str) -> None: ...

    def on_call_state_updated(self, state: str) -> None: ...

    def on_error(self, message: str) -> None: ...

    def on_inputs_updated(self, input_settings: Mapping[str, Any]) -> None: ...

    def on_participant_joined(self, participant: Mapping[str, Any]) -> None: ...

    def on_participant_left(self, participant: Mapping[str, Any], reason: str) -> None: ...


class _CustomVideoSource:
    _sdk: FakeDaily

    def __init__(self, width: int, height: int, color_format: str = "RGBA") -> None:
        self._sdk._check_init()
        if color_format not in BYTES_PER_PIXEL:
            raise ValueError(f"invalid color format {color_format}")
        self.width, self.height, self.color_format = width, height, color_format

    def write_frame(self, frame: bytes) -> None:
        _check_bytes(frame)
        size = int(self.width * self.height * BYTES_PER_PIXEL[self.color_format])
        if len(frame) != size:
            raise ValueError(f"frame size mismatch: expected {size} bytes, got {len(frame)}")
        self._sdk.shown.append((self._sdk.clock.now_ns(), frame))


class _CustomVideoTrack:
    def __init__(self, video_source: Any) -> None:
        self._source = video_source
        self.id = str(uuid.uuid4())
        video_source._sdk._tracks.add(self.id)

    def __del__(self) -> None:
        self._source._sdk._forget_track(self.id)


class _CustomAudioSource:
    _sdk: FakeDaily

    def __init__(self, sample_rate: int, channels: int, auto_silence: bool = True) -> None:
        self._sdk._check_init()
        self.sample_rate, self.channels = sample_rate, channels
        self._queue: deque[tuple[int, bytes, Callable[[int], None]]] = deque()
        self._ends_ns = 0
        self._pump: asyncio.Task[None] | None = None
        self._sdk.audio_sources.append(self)

    def write_frames(self, frames: bytes, completion: Callable[[int], None] | None = None) -> int:
        _check_bytes(frames)
        width = 2 * self.channels
        if len(frames) % width:
            raise ValueError("frames bytestring should contain 16-bit samples")
        samples = len(frames) // width
        if completion is None:
            raise NativeAbort("write_frames without completion blocks until it has played")
        if samples * 100 % self.sample_rate or not samples:
            # What is no multiple of 10 ms is reported at once.
            completion(samples)
            return samples
        now_ns = self._sdk.clock.now_ns()
        start_ns = max(now_ns, self._ends_ns)
        self._ends_ns = start_ns + samples_to_ns(samples, self.sample_rate)
        self._sdk.heard.append((start_ns, frames))
        self._queue.append((self._ends_ns, frames, completion))
        held = sum(len(piece) // width for _, piece, _ in self._queue)
        self._sdk.most_in_flight = max(self._sdk.most_in_flight, held)
        if self._pump is None or self._pump.done():
            self._loop = asyncio.get_running_loop()
            self._pump = asyncio.create_task(self._play())
        return samples

    async def _play(self) -> None:
        while self._queue:
            ends_ns, frames, completion = self._queue[0]
            await self._sdk.clock.sleep_until(ends_ns)
            if self._sdk.deaf:
                return
            self._queue.popleft()
            self._sdk._call_back(completion, len(frames) // 2 // self.channels)

    def __del__(self) -> None:
        if getattr(self, "_queue", None):
            self._sdk.violations.append("an audio source went while it played: deadlock or abort")

    def _freeze(self) -> None:
        if self._pump is not None and not self._pump.done():
            self._loop.call_soon_threadsafe(self._pump.cancel)


class _CustomAudioTrack:
    def __init__(self, audio_source: Any) -> None:
        self._source = audio_source
        self.id = str(uuid.uuid4())
        audio_source._sdk._tracks.add(self.id)

    def __del__(self) -> None:
        self._source._sdk._forget_track(self.id)


class _CallClient:
    _sdk: FakeDaily

    def __init__(self, event_handler: Any = None) -> None:
        self._sdk._check_init()
        self._handler = event_handler
        self._released = False
        self._inputs = ""
        self._state = "initialized"
        self.user_name = ""
        self.url = ""
        self.token: str | None = None
        self.settings: dict[str, Any] = {}
        self._pending_join: Callable[..., None] | None = None
        self._join_over = threading.Event()
        self._sdk.clients.append(self)

    def release(self) -> None:
        self._check()
        self._released = True
        self._sdk.log.append("release")
        if self._state == "joined":
            self._sdk.violations.append("released without leaving")
        for source in self._sdk.audio_sources:
            source._freeze()
        if self._pending_join is not None:
            # The real one comes back when the join has given up, up to 20 s later.
            self._join_over.wait(60)

    def set_user_name(self, user_name: str) -> None:
        self._check()
        self.user_name = user_name

    def join(
        self,
        meeting_url: str,
        meeting_token: str | None = None,
        client_settings: Mapping[str, Any] | None = None,
        completion: Callable[..., None] | None = None,
    ) -> None:
        self._check()
        sdk = self._sdk
        sdk.log.append("join")
        self.url, self.token = meeting_url, meeting_token
        self.settings = dict(client_settings or {})
        if not meeting_url.startswith("http"):
            error = f'Failed to parse url: InvalidUrl("{meeting_url}", RelativeUrlWithoutBase)'
            self._refuse("join", error, completion, None)
            return
        if (error := _publishing_error(self.settings.get("publishing", {}))) is not None:
            self._refuse("join", f"Invalid client settings: {error}", completion, None)
            return
        self._state = "joining"
        self._event("on_call_state_updated", "joining")
        self._pending_join = completion or (lambda data, error: None)
        if sdk.join_delay_ns is not None:
            sdk._later(sdk.join_delay_ns, lambda: sdk.finish_join(sdk.join_error))
        elif not sdk.hold_join:
            sdk.finish_join(sdk.join_error)

    def leave(self, completion: Callable[..., None] | None = None) -> None:
        self._check()
        self._sdk.log.append("leave")
        self._state = "leaving"
        if self._sdk.hold_leave:
            return
        self._state = "left"
        self._event("on_call_state_updated", "left")
        self._sdk._call_back(completion, None)

    def participants(self) -> Mapping[str, Any]:
        self._check()
        others = self._sdk.present if self._state == "joined" else {}
        return {"local": {"id": "me", "info": {"isLocal": True}}, **others}

    def update_inputs(
        self, input_settings: Mapping[str, Any], completion: Callable[..., None] | None = None
    ) -> None:
        self._check()
        if self._sdk.ignore_inputs:
            input_settings = {"camera": {"isEnabled": False, "settings": {}}}
        self._inputs = repr(input_settings)
        self._event("on_inputs_updated", dict(input_settings))
        self._sdk._call_back(completion, None)

    def update_publishing(
        self, publishing_settings: Mapping[str, Any], completion: Callable[..., None] | None = None
    ) -> None:
        self._check()
        error = _publishing_error(publishing_settings)
        if error is not None:
            error = f"Publishing settings were not valid {error}"
            self._refuse("updatePublishing", error, completion)
        else:
            self._sdk._call_back(completion, None)

    def update_subscription_profiles(
        self, profile_settings: Mapping[str, Any], completion: Callable[..., None] | None = None
    ) -> None:
        self._check()
        self._sdk.profiles = dict(profile_settings)
        self._sdk._call_back(completion, None)

    def send_app_message(
        self,
        message: Any,
        participant_id: str | None = None,
        completion: Callable[..., None] | None = None,
    ) -> None:
        self._check()
        if self._state != "joined":
            self._refuse("sendAppMessage", "AppMessage(Signalling(ChannelNotOpen))", completion)
            return
        self._sdk.messages.append((message, participant_id))
        self._sdk._call_back(completion, None)

    def get_network_stats(self) -> Mapping[str, Any]:
        self._check()
        return {"quality": 100, "stats": {"latest": {}}, "threshold": "good"}

    def _check(self) -> None:
        if self._released:
            self._sdk.violations.append("a client was used after its release")
            raise RuntimeError("this object has already been released")

    def _event(self, name: str, *args: Any) -> None:
        if self._handler is not None and not self._released:
            self._sdk._call_back(getattr(self._handler, name), *args)

    def _refuse(
        self, request: str, error: str, completion: Callable[..., None] | None, *data: Any
    ) -> None:
        self._sdk._call_back(completion, *data, error)
        self._event("on_error", f"Error handling {request}: {error}")


class FakeDaily:
    """One import of the module. ``clock`` paces sound and delays."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        for name, base in _CLASSES.items():
            setattr(self, name, type(name, (base,), {"_sdk": self}))
        # What it saw
        self.inits = 0
        self.clients: list[Any] = []
        self.audio_sources: list[Any] = []
        self.shown: list[tuple[int, bytes]] = []
        self.heard: list[tuple[int, bytes]] = []
        self.most_in_flight = 0
        self.messages: list[tuple[Any, str | None]] = []
        self.profiles: dict[str, Any] = {}
        self.log: list[str] = []
        self.violations: list[str] = []
        self._tracks: set[str] = set()
        # The script
        self.hold_join = False
        self.join_delay_ns: int | None = None
        self.join_error: str | None = None
        self.present: dict[str, Any] = {}
        self.hold_leave = False
        self.ignore_inputs = False
        self.deaf = False

    @property
    def tracks(self) -> int:
        """Tracks alive."""
        return len(self._tracks)

    def finish_join(self, error: str | None = None) -> None:
        """Let a join that was held back succeed or fail, also after its client's release."""
        client = self.clients[-1]
        completion, client._pending_join = client._pending_join, None
        client._join_over.set()
        if error is not None:
            client._event("on_error", error)
            client._state = "left"
            client._event("on_call_state_updated", "left")
            self._call_back(completion, None, error)
            return
        if not client._released:
            client._state = "joined"
            client._event("on_call_state_updated", "joined")
        self._call_back(completion, {"participants": {}}, None)

    def arrive(self, participant: str) -> None:
        """Somebody joins."""
        self.present[participant] = {"id": participant, "info": {"isLocal": False}}
        self.clients[-1]._event("on_participant_joined", self.present[participant])

    def depart(self, participant: str, reason: str = "leftCall") -> None:
        """Somebody leaves."""
        left = self.present.pop(participant)
        self.clients[-1]._event("on_participant_left", left, reason)

    def say(self, message: Any, sender: str) -> None:
        """Somebody sends an app message."""
        self.clients[-1]._event("on_app_message", message, sender)

    def lose(self, error: str | None) -> None:
        """The avatar is out of the call: by an error or, without one, by the call's end."""
        client = self.clients[-1]
        client._state = "left"
        if error is not None:
            client._event("on_error", error)
        client._event("on_call_state_updated", "left")

    def complete_late(self) -> int:
        """Play what was in flight when the client was released; returns how many pieces."""
        late = 0
        for source in self.audio_sources:
            while source._queue:
                _, frames, completion = source._queue.popleft()
                self._call_back(completion, len(frames) // 2)
                late += 1
        return late

    def _later(self, delay_ns: int, act: Callable[[], None]) -> None:
        async def wait() -> None:
            await self.clock.sleep_until(self.clock.now_ns() + delay_ns)
            act()

        self._delayed = asyncio.create_task(wait())

    def _check_init(self) -> None:
        if not self.inits:
            raise NativeAbort("used before Daily.init")

    def _forget_track(self, track: str) -> None:
        self._tracks.discard(track)
        if any(not client._released and track in client._inputs for client in self.clients):
            self.violations.append("a track went before the client that uses it")

    def _call_back(self, callback: Callable[..., None] | None, *args: Any) -> None:
        """Call back on Daily's thread, and wait for it, so that a test runs the same every time."""
        if callback is not None:
            _callbacks.run(callback, args)


class _Callbacks:
    """Daily's thread: one for all, as in the real SDK, where it lives as long as the process."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...], Any]]
        self._work = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="fake-daily", daemon=True)
        self._thread.start()

    def run(self, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        done = threading.Event()
        self._work.put((callback, args, done))
        if threading.current_thread() is self._thread:
            return
        if not done.wait(PATIENCE_S):
            # Raised in the caller; a test's own tasks must not hide it.
            raise NativeAbort("deadlock: a callback waits for what only this thread can bring")

    def _run(self) -> None:
        while True:
            callback, args, done = self._work.get()
            try:
                callback(*args)
            except Exception:
                # The real one prints such errors and goes on.
                traceback.print_exc()
            done.set()
            del callback, args, done


_callbacks = _Callbacks()

_CLASSES: dict[str, type] = {
    "Daily": _Daily,
    "CallClient": _CallClient,
    "EventHandler": _EventHandler,
    "CustomAudioSource": _CustomAudioSource,
    "CustomAudioTrack": _CustomAudioTrack,
    "CustomVideoSource": _CustomVideoSource,
    "CustomVideoTrack": _CustomVideoTrack,
}
"""What of the real module is there."""


def _check_bytes(value: object) -> None:
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__!r} object is not an instance of 'bytes'")


def _publishing_error(settings: Mapping[str, Any]) -> str | None:
    """Layers are named and counted from ``low`` upwards; anything else is refused."""
    with contextlib.suppress(KeyError):
        layers = settings["camera"]["sendSettings"]["encodings"]
        if not isinstance(layers, Mapping):
            return "`CustomVideoEncodingsSettings` is not a string or object"
        if list(layers) not in (["low"], ["low", "medium"], ["low", "medium", "high"]):
            return "Invalid custom video encodings setting"
    return None
