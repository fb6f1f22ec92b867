"""When motion is generated, and for which sessions together: when the pool calls the engine's
``generate_motion``.

Who runs dry first comes first. Others join as far as that makes nobody late; work that can wait is
done while there is time, before somebody has to wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from models.engine import MotionBatchEngine

if TYPE_CHECKING:
    from worker.pipeline.actor_proxy import ActorProxy

SOON = 3
"""Frames before a face runs dry from which on its motion is worked out as soon as there is time."""

_FORGET = 0.8


class MotionScheduler:
    """Decides whose motion is generated next; of the one thread of a motion-batch engine."""

    def __init__(self, engine: MotionBatchEngine, now_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._now_ns = now_ns
        self._took_ns: dict[int, float] = {}
        """Measured time that a batch of so many (a power of two) takes."""

    def schedule(
        self, needed: Sequence[ActorProxy], others: Iterable[ActorProxy], spare_ns: float
    ) -> None:
        """Generate motion for ``needed`` (their next frame is speech), and others.

        Args:
            needed: whose next frame is speech and asked for.
            others: who else may want motion.
            spare_ns: time until a picture would come too late.
        """
        urgent = [actor_proxy for actor_proxy in needed if actor_proxy.motion_headroom == 0]
        headroom = {p: p.motion_headroom for p in (*needed, *others) if p not in urgent}
        rest = sorted(
            (p for p in headroom if headroom[p] is not None), key=lambda p: headroom[p] or 0
        )
        if not urgent and not (rest and (headroom[rest[0]] or 0) <= SOON):
            return
        members = [*urgent, *rest][: max(self._engine.motion_batch, len(urgent))]
        while len(members) > len(urgent) and self.expected_ns(len(members)) > spare_ns:
            # A batch half as large is worth trying; one less is not.
            members = members[: max(len(urgent), len(members) // 2)]
        if members:
            self._generate(members)

    def expected_ns(self, count: int) -> float:
        """Time that a batch of ``count`` will take; 0 where none was measured yet."""
        return self._took_ns.get(_size(count), 0.0)

    def _generate(self, members: Sequence[ActorProxy]) -> None:
        begun_ns = self._now_ns()
        try:
            self._engine.generate_motion([actor_proxy.actor for actor_proxy in members])
        except Exception as error:
            if len(members) == 1:
                members[0].fault = error
                return
            for actor_proxy in members:  # find out whose it is; the other sessions go on
                self._generate([actor_proxy])
            return
        took_ns = self._now_ns() - begun_ns
        size = _size(len(members))
        known_ns = self._took_ns.get(size, float(took_ns))
        # Believe a slow one at once and a fast one gradually.
        self._took_ns[size] = max(float(took_ns), _FORGET * known_ns + (1 - _FORGET) * took_ns)


def _size(count: int) -> int:
    return 1 << (count - 1).bit_length()
