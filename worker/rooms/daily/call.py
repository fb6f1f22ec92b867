"""A call on Daily, as asyncio wants it: the only place that touches ``daily-python``.

The SDK aborts the process where other libraries raise (a second ``Daily.init``, a client before
the first), reads native memory, and calls back on a thread of its own. Everything is checked
before it gets there, and everything that comes back is posted to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import structlog

from models.engine import Canvas
from worker.clock import NS_PER_SECOND, Clock
from worker.rooms.daily.audio import AudioFeed, borrow_source, return_source
from worker.rooms.daily.events import (
    AppMessage,
    CallEvent,
    CallLost,
    ParticipantJoined,
    ParticipantLeft,
    loss_kind,
)
from worker.rooms.daily.sdk import (
    NO_SUBSCRIPTIONS,
    initialise,
    input_settings,
    publishing_settings,
    split_url,
)
from worker.rooms.port import SAMPLES_PER_FRAME, RoomError

log = structlog.get_logger(__name__)

T = TypeVar("T")

RELEASE_TIMEOUT_S = 10.0
"""How long leaving waits for the SDK to let a client go."""

PENDING_RELEASE_S = 0.1
"""The same after a join that was given up: the SDK goes on trying, for up to 20 s, and the client
goes after that, with nobody waiting."""


class DailyCall:
    """One participant in one call, who is seen and heard and takes nothing in.

    Belongs to the event loop it is opened on; opens once.

    Args:
        canvas: size of the pictures.
        clock: where time-outs come from.
        on_event: called on the loop with what happens after ``open``.
        sdk: the module ``daily`` or one that behaves like it.
        leave_timeout_s: how long Daily may take to say goodbye.
    """

    def __init__(
        self,
        canvas: Canvas,
        clock: Clock,
        on_event: Callable[[CallEvent], None],
        *,
        sdk: Any,
        leave_timeout_s: float = 5.0,
    ) -> None:
        self._canvas = canvas
        self._clock = clock
        self._on_event = on_event
        self._sdk = sdk
        self._leave_timeout_s = leave_timeout_s
        self._token = ""
        self._client: Any = None
        self._audio: Any = None
        self._in_use = 2  # by its feed and by the client
        self._video: Any = None
        self._video_track: Any = None
        self._audio_track: Any = None
        self._feed: AudioFeed | None = None
        self._inputs: asyncio.Future[None] | None = None
        self._others: set[str] = set()
        self._pending = False
        self._joined = False
        self._closing: asyncio.Task[None] | None = None
        self._complaint = ""

    # The eight things a call does

    async def open(
        self, url: str, token: str | None, user_name: str, join_timeout_s: float
    ) -> None:
        """Join the call and begin to publish.

        Raises:
            RoomError: not a room's address, or Daily does not let us in, or not in time. What has
                been set up until then is released by ``close``.
        """
        self._loop = asyncio.get_running_loop()
        url, self._token = split_url(url, token)
        initialise(self._sdk)
        await self._within(
            join_timeout_s,
            self._join(url, user_name),
            f"Daily did not let the avatar in within {join_timeout_s:g} s; check the room's "
            "address and that this machine reaches the internet",
        )

    def push_video(self, picture: bytes) -> None:
        """Show a picture: I420, as ``bytes`` (the SDK takes nothing else).

        Raises:
            ValueError: wrong type or length.
            RoomError: the call is not open.
        """
        size = self._canvas.width * self._canvas.height * 3 // 2
        if not isinstance(picture, bytes) or len(picture) != size:
            raise ValueError(f"a picture must be {size} bytes of I420")
        if self._video is None:
            raise RoomError("the call is not open")
        self._video.write_frame(picture)

    async def push_audio(self, pcm: bytes, on_start: Callable[[], None] | None = None) -> None:
        """Append sound, 16-bit mono at 48 kHz; returns when no more than 40 ms wait inside.

        ``on_start`` is called on the loop when the first sample begins to be heard.
        """
        feed = self._open_feed()
        feed.push(pcm, on_start)
        await feed.space()

    def clear(self) -> int:
        """Throw away the sound that Daily does not have yet; returns its samples."""
        return self._feed.clear() if self._feed is not None else 0

    async def send_message(self, message: Any, to: str | None = None) -> None:
        """Send ``message`` (anything JSON can hold) to everybody, or to one participant.

        Raises:
            ValueError: JSON cannot hold it.
            RoomError: not in a call, or Daily did not send it.
        """
        try:
            json.dumps(message)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the message cannot be written as JSON: {error}") from error
        if not self._joined or self._closing is not None:
            raise RoomError("the avatar is not in the call; nothing can be sent")
        await self._within(
            self._leave_timeout_s,
            self._ask(self._client.send_app_message, message, to),
            "Daily did not send the message in time",
        )

    def participants(self) -> list[str]:
        """Ids of everybody else in the call."""
        return sorted(self._others)

    def stats(self) -> Mapping[str, Any]:
        """What the SDK measures of the network; empty when not in a call."""
        if not self._joined or self._closing is not None:
            return {}
        stats: Mapping[str, Any] = self._client.get_network_stats()
        return stats

    async def close(self) -> None:
        """Leave and release everything; fine to call twice, and after a failed ``open``."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    # Sound

    @property
    def played(self) -> int:
        """Samples that have left the call's audio queue."""
        return self._feed.played if self._feed is not None else 0

    async def space(self) -> None:
        """Return when no more than 40 ms of sound wait inside."""
        await self._open_feed().space(SAMPLES_PER_FRAME)

    def stop_audio(self, why: str) -> None:
        """Play nothing more; a caller that waits for space gets ``RoomError(why)``."""
        if self._feed is not None:
            self._feed.close(why)

    def _open_feed(self) -> AudioFeed:
        if self._feed is None:
            raise RoomError("the call is not open")
        return self._feed

    # Joining and leaving

    async def _join(self, url: str, user_name: str) -> None:
        sdk, canvas = self._sdk, self._canvas
        # Native objects live in attributes alone, never in a frame that an exception might keep.
        self._audio = borrow_source(sdk)
        self._feed = AudioFeed(self._audio, self._clock, self._return_source)
        self._video = sdk.CustomVideoSource(canvas.width, canvas.height, "I420")
        self._audio_track = sdk.CustomAudioTrack(self._audio)
        self._video_track = sdk.CustomVideoTrack(self._video)
        self._client = sdk.CallClient(event_handler=_handler(sdk, self))
        self._client.set_user_name(user_name)
        await self._ask(self._client.update_subscription_profiles, NO_SUBSCRIPTIONS)
        settings = {
            "inputs": input_settings(self._video_track.id, self._audio_track.id),
            "publishing": publishing_settings(canvas),
        }
        await self._ask(self._client.update_publishing, settings["publishing"])
        # The request succeeds whatever the tracks' ids are; the event says what was taken.
        self._inputs = self._loop.create_future()
        await self._ask(self._client.update_inputs, settings["inputs"])
        await self._inputs
        # The settings once more: joining would otherwise go back to Daily's own.
        self._pending = True
        try:
            await self._ask(self._client.join, url, self._token or None, settings)
        except RoomError:
            self._pending = False
            raise
        self._pending = False
        self._joined = True
        self._others |= set(self._client.participants()) - {"local"}

    def _return_source(self) -> None:
        """Once it is silent and this call's client has gone: until then what the next session
        says through it could be heard here."""
        self._in_use -= 1
        if self._in_use == 0:
            return_source(self._sdk, self._audio)
            self._audio = None

    async def _close(self) -> None:
        self.stop_audio("the room is closed; nothing can be published to it any more")
        if self._client is not None and self._joined:
            with contextlib.suppress(RoomError):
                goodbye = self._ask(self._client.leave)
                await self._within(self._leave_timeout_s, goodbye, "no goodbye")
        # The client used the tracks, the tracks use the sources; each goes before what it uses.
        held = [self._client, self._video_track, self._audio_track, self._video]
        self._client = self._video_track = self._audio_track = self._video = None
        self._others.clear()
        if held[0] is not None:
            await self._release(held)
        elif self._audio is not None:
            self._return_source()

    async def _release(self, held: list[Any]) -> None:
        """Release the client, which is the first of ``held``, then let go of all in order.

        ``release`` blocks, so it gets a thread; a daemon, lest a hanging one hold the process.
        """
        released = self._loop.create_future()

        def work() -> None:
            try:
                held[0].release()
            except RuntimeError as error:
                log.warning("daily_release_failed", error=self._redact(str(error)))
            while held:
                del held[0]
            self._post(self._return_source)
            self._post(_resolve, released)

        thread = threading.Thread(target=work, name="daily-release", daemon=True)
        thread.start()
        timeout = PENDING_RELEASE_S if self._pending else RELEASE_TIMEOUT_S
        await asyncio.wait({released}, timeout=timeout)
        if released.done():
            thread.join()
        elif not self._pending:
            log.error("daily_release_hangs", timeout_s=timeout)

    async def _ask(self, method: Callable[..., None], *args: Any) -> None:
        """Call ``method`` and await its completion, whose last argument is an error or None."""
        answer: asyncio.Future[None] = self._loop.create_future()

        def completion(*results: Any) -> None:
            self._post(_resolve, answer, results[-1] if results else None)

        try:
            method(*args, completion=completion)
        except (RuntimeError, TypeError, ValueError) as error:
            raise RoomError(self._sentence(str(error))) from None
        try:
            await answer
        except _Refused as error:
            raise RoomError(self._sentence(str(error))) from None

    async def _within(self, seconds: float, work: Coroutine[Any, Any, T], late: str) -> T:
        """The result of ``work``; ``RoomError(late)`` when it takes too long by the clock."""
        task = asyncio.create_task(work)
        deadline_ns = self._clock.now_ns() + round(seconds * NS_PER_SECOND)
        alarm = asyncio.create_task(self._clock.sleep_until(deadline_ns))
        try:
            await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise RoomError(late)
            return task.result()
        finally:
            task.cancel()
            alarm.cancel()
            await asyncio.gather(task, alarm, return_exceptions=True)

    # From Daily's thread

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        """On any thread: have the loop call ``callback``; a closed loop wants nothing more."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def _note_inputs(self, settings: Mapping[str, Any]) -> None:
        if self._inputs is None or self._inputs.done() or self._video_track is None:
            return
        taken = {
            device: ((settings.get(device) or {}).get("settings") or {}).get("customTrack")
            for device in ("camera", "microphone")
        }
        wanted = {"camera": self._video_track.id, "microphone": self._audio_track.id}
        if taken == {device: {"id": track} for device, track in wanted.items()}:
            self._inputs.set_result(None)

    def _note_joined(self, participant_id: str) -> None:
        if self._closing is None and participant_id not in self._others:
            self._others.add(participant_id)
            self._on_event(ParticipantJoined(participant_id))

    def _note_left(self, participant_id: str, reason: str) -> None:
        if self._closing is None and participant_id in self._others:
            self._others.discard(participant_id)
            self._on_event(ParticipantLeft(participant_id, reason))

    def _note_message(self, message: Any, sender: str) -> None:
        if self._closing is None:
            self._on_event(AppMessage(message, sender))

    def _note_error(self, message: str) -> None:
        """The SDK also reports here what a request's completion says anyway, in these words."""
        if message.startswith("Error handling "):
            return
        self._complaint = message
        self._lose()

    def _note_state(self, state: str) -> None:
        if state == "left":
            self._lose()

    def _lose(self) -> None:
        # A join that fails passes through here too; its completion reports it.
        if not self._joined or self._closing is not None:
            return
        self._joined = False
        self._others.clear()
        said = f": {self._redact(self._complaint)}" if self._complaint else ""
        self._on_event(CallLost(f"the Daily call has ended{said}", loss_kind(self._complaint)))

    def _sentence(self, text: str) -> str:
        if "RoomLookup" in text or "Connect" in text:
            return (
                "Daily cannot be reached or does not know the room; check the room's address "
                f"and that this machine reaches the internet ({self._redact(text)})"
            )
        return f"Daily refused: {self._redact(text)}; check the room's address and the token"

    def _redact(self, text: str) -> str:
        return text.replace(self._token, "***") if self._token else text


class _Refused(Exception):
    """The error text of a completion."""


def _resolve(future: asyncio.Future[None], error: str | None = None) -> None:
    if future.done():
        return  # too late; nobody waits any more
    if error:
        future.set_exception(_Refused(str(error)))
    else:
        future.set_result(None)


def _handler(sdk: Any, call: DailyCall) -> Any:
    """An event handler of the SDK's own class that posts to ``call``'s loop and does no more:
    a callback that waits for anything stops Daily's thread."""
    post = call._post

    class Handler(sdk.EventHandler):
        def on_inputs_updated(self, input_settings: Mapping[str, Any]) -> None:
            post(call._note_inputs, input_settings)

        def on_participant_joined(self, participant: Mapping[str, Any]) -> None:
            post(call._note_joined, str(participant.get("id")))

        def on_participant_left(self, participant: Mapping[str, Any], reason: str) -> None:
            post(call._note_left, str(participant.get("id")), str(reason))

        def on_app_message(self, message: Any, sender: str) -> None:
            post(call._note_message, message, str(sender))

        def on_error(self, message: str) -> None:
            post(call._note_error, str(message))

        def on_call_state_updated(self, state: str) -> None:
            post(call._note_state, str(state))

    return Handler()
