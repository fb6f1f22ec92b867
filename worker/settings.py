"""The worker's settings: environment variables ``AVATAR_WORKER_*``, nested names joined by ``__``.

Nothing is read at import; ``load_settings`` reads the environment when a command asks for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from common.canvas_settings import CanvasSettings
from common.settings import LogSettings as LogSettings
from common.settings import ServerSettings, load
from common.settings import SettingsError as SettingsError
from worker.process.cores import usable_cores

PREFIX = "AVATAR_WORKER_"

AUTO_SCALES = (1.0, 0.75, 0.5)
"""What a canvas whose scale is ``auto`` is chosen from."""


class WebSocketSettings(BaseModel):
    """Limits of the speech socket."""

    init_timeout_s: float = Field(default=10, gt=0, description="time for the first message")
    max_message_bytes: int = Field(default=10 * 2**20, ge=1024, description="largest message")
    ping_interval_s: float = Field(default=20, gt=0, description="time between keepalive pings")
    ping_timeout_s: float = Field(default=20, gt=0, description="time for the pong")
    send_timeout_s: float = Field(
        default=20, gt=0, description="time for a client to take a message"
    )
    failed_inits_per_minute: int = Field(default=20, ge=1, description="refusals before HTTP 429")
    trust_forwarded_for: bool = Field(
        default=False,
        description="count clients by the last X-Forwarded-For entry (behind a proxy)",
    )


class LifecycleSettings(BaseModel):
    """When sessions end by themselves, in seconds."""

    join_timeout_s: float = Field(default=60, gt=0, description="time to enter the room")
    never_joined_s: float = Field(default=180, gt=0, description="time for anybody to come")
    empty_room_grace_s: float = Field(default=5, ge=0, description="time an empty room is kept")
    agent_left_s: float = Field(
        default=60, ge=0, description="time for the agent spoken for to come back"
    )
    expiring_notice_s: float = Field(default=60, ge=0, description="notice before expiry")
    metrics_interval_s: float = Field(default=5, gt=0, description="time between session.metrics")


class WorkerSettings(ServerSettings):
    """Everything an operator can set on a worker."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        hide_input_in_errors=True,
        frozen=True,
    )

    http_port: int = Field(default=8080, ge=0, le=65535, description="0: any free port")
    ws_port: int = Field(default=8765, ge=0, le=65535, description="0: any free port")
    secret: SecretStr | None = Field(
        default=None, description="shared secret that guards /sessions; at least 16 characters"
    )

    engine: Literal["auto", "warp", "ditto"] = Field(
        default="auto",
        description="talking-face engine; auto: ditto where its files and CUDA are, else warp",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$",
        description="ditto's: auto, cpu, cuda or cuda:N; warp runs on the CPU",
    )
    compile: bool = Field(
        default=False,
        description="ditto on a GPU: write kernels of its own at start, which takes minutes",
    )
    render_threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="sessions rendered at the same time; default: one less than there are cores",
    )
    max_sessions: int | None = Field(
        default=None, ge=1, le=1024, description="None: measured at start"
    )
    liveliness: float = Field(
        default=1.0, ge=0, le=1.5, description="how much the face moves by itself"
    )
    canvas: CanvasSettings = CanvasSettings()

    backlog_s: float = Field(default=300, ge=1, le=3600, description="unplayed speech per session")
    drain_timeout_s: float = Field(
        default=120, ge=0, description="time sessions may go on after SIGTERM"
    )
    parent_pid: int | None = Field(
        default=None, ge=1, description="the parent process, with which the worker ends"
    )
    record_dir: Path | None = Field(
        default=None, description="folder of file rooms; None: no file rooms"
    )
    portrait_dir: Path | None = Field(default=None, description="folder of portraits named by path")

    ws: WebSocketSettings = WebSocketSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("must have at least 16 characters")
        return value

    def at_scale(self, scale: float) -> WorkerSettings:
        """The same with canvases of this scale."""
        return self.model_copy(update={"canvas": self.canvas.at(scale)})

    @property
    def threads(self) -> int:
        """How many threads render: one core is left for everything else, where there are more."""
        return self.render_threads or max(1, usable_cores() - 1)

    def require_guard(self) -> None:
        """Refuse to serve ``/sessions`` unguarded to a network.

        Raises:
            SettingsError: ``host`` is reachable from elsewhere and no secret is set.
        """
        if self.secret is None and not self.loopback:
            raise SettingsError(
                f"{PREFIX}HOST={self.host} is reachable from other machines and /sessions would be"
                f" unguarded. Set {PREFIX}SECRET to a random string of at least 16 characters, or"
                f" {PREFIX}HOST to 127.0.0.1."
            )


def load_settings(**overrides: Any) -> WorkerSettings:
    """Settings from the environment; ``overrides`` win.

    Raises:
        SettingsError: one sentence per variable that cannot be used.
    """
    return load(WorkerSettings, **overrides)
