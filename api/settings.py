"""The control plane's settings: environment variables ``AVATAR_API_*``, nested names joined by
``__``. Nothing is read at import; ``load_settings`` reads the environment when a command asks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from common.settings import LogSettings as LogSettings
from common.settings import ServerSettings, load
from common.settings import SettingsError as SettingsError

PREFIX = "AVATAR_API_"

DEFAULT_AVATAR = "PUBLIC/Avatars/anna"
"""A public avatar that every installation has."""


class LocalSettings(BaseModel):
    """Resident workers."""

    workers: list[str] = Field(
        default=[], description='HTTP addresses of workers, as JSON: ["http://127.0.0.1:8080"]'
    )
    spawn: bool | None = Field(
        default=None,
        description="start a worker of our own on this machine; default: when workers is empty",
    )
    secret: SecretStr | None = Field(default=None, description="the workers' AVATAR_WORKER_SECRET")
    timeout_s: float = Field(default=15, gt=0, description="time for a worker to take a session")
    warm_wait_s: float = Field(
        default=30, ge=0, description="how long a session waits for workers that are starting"
    )


class RunPodSettings(BaseModel):
    """A RunPod serverless endpoint."""

    endpoint_id: str | None = Field(default=None, description="the endpoint's id")
    api_key: SecretStr | None = Field(default=None, description="a RunPod API key")
    base_url: str = Field(default="https://api.runpod.ai/v2", description="RunPod's REST address")
    socket: Literal["proxy", "direct"] = Field(
        default="proxy", description="the worker's address the gateway uses: TLS proxy or TCP port"
    )
    max_session_s: int = Field(
        default=24 * 3600, ge=60, le=7 * 24 * 3600, description="limit of sessions without expiry"
    )
    heartbeat_s: float = Field(
        default=120,
        gt=0,
        description="silence of RunPod's REST that ends sessions: jobs run on without it",
    )


class LiveKitSettings(BaseModel):
    """A LiveKit server of our own, for ``proxy`` rooms."""

    url: str | None = Field(default=None, description="ws(s) address clients use")
    worker_url: str | None = Field(
        default=None, description="ws(s) address workers use, if it differs"
    )
    api_url: str | None = Field(default=None, description="http(s) address, if it differs")
    api_key: str | None = Field(default=None, description="API key")
    api_secret: SecretStr | None = Field(default=None, description="API secret")


class LifecycleSettings(BaseModel):
    """How sessions are supervised, in seconds."""

    look_s: float = Field(default=1, gt=0, description="time between looks at the workers")
    heartbeat_s: float = Field(
        default=15, gt=0, description="silence of a worker that ends sessions"
    )
    ready_timeout_s: float = Field(
        default=60, gt=0, description="time for the avatar to be in its room"
    )
    sweep_s: float = Field(default=30, gt=0, description="time between sweeps")
    minutes_check_s: float = Field(default=15, gt=0, description="time between looks at minutes")
    created_ttl_s: float = Field(default=3600, gt=0, description="time to start a created session")
    drain_s: float = Field(default=10, ge=0, description="time requests may take after SIGTERM")


class ApiSettings(ServerSettings):
    """Everything an operator can set on the control plane."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        hide_input_in_errors=True,
        frozen=True,
    )

    port: int = Field(default=8000, ge=0, le=65535, description="0: any free port")
    public_ws_url: str | None = Field(
        default=None, description="ws(s) address of the speech gateway, if not under public_url"
    )
    proxies: str = Field(
        default="127.0.0.1",
        description="addresses of reverse proxies whose forwarded headers count",
    )
    secret: SecretStr | None = Field(
        default=None,
        description="signs links and session tokens, at least 32 characters; the same in every"
        " process; default: one is made and kept in data_dir",
    )

    data_dir: Path = Field(default=Path("data"), description="folder of the embedded defaults")
    database_url: str | None = Field(
        default=None,
        repr=False,  # there may be a password in it
        description="SQLAlchemy URL (postgresql+asyncpg://…); default: SQLite in data_dir",
    )
    media_url: str | None = Field(
        default=None,
        description="s3://bucket/prefix?endpoint_url=…; default: a folder in data_dir",
    )
    redis_url: SecretStr | None = Field(
        default=None, description="redis://…: rate limits shared by several processes"
    )

    dispatcher: Literal["local", "runpod"] = Field(default="local", description="who runs sessions")
    local: LocalSettings = LocalSettings()
    runpod: RunPodSettings = RunPodSettings()
    livekit: LiveKitSettings = LiveKitSettings()
    ws_uri: Literal["gateway", "worker"] = Field(
        default="gateway",
        description="speech address clients are given: our gateway or the worker's own socket",
    )
    daily_user_name: str = Field(default="AI Avatar", description="the avatar's name in Daily")

    plans_file: Path | None = Field(
        default=None, description="TOML of plans; default: the built-in"
    )
    default_plan: str = Field(default="enterprise", description="plan of accounts without one")
    default_avatar: str = Field(default=DEFAULT_AVATAR, description="what avatar_aliases stand for")
    avatar_aliases: list[str] = Field(
        default=["avat_01KMZHXFPBVCXA5ATK85HCP8G1", "avat_01KMZJ4WE5QCD9G3EK21QW8NJK"],
        description="ids that mean default_avatar: those stock clients ask for",
    )

    rate_limit_per_minute: int = Field(default=60, ge=0, description="per API key; 0: no limit")
    insufficient_minutes_status: int = Field(default=403, ge=400, le=499, description="HTTP status")
    concurrency_status: int = Field(default=429, ge=400, le=499, description="HTTP status")
    allow_private_image_urls: bool = Field(
        default=False, description="image URLs may reach private addresses (tests, closed networks)"
    )
    image_workers: int = Field(default=1, ge=1, le=64, description="photos examined at a time")
    console: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="the page at /; auto: on, and with a key of its own where only this machine"
        " can reach it",
    )

    lifecycle: LifecycleSettings = LifecycleSettings()

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("must have at least 32 characters")
        return value

    @property
    def base_url(self) -> str:
        """Address clients reach us at, without a slash at its end."""
        if self.public_url is not None:
            return self.public_url
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def gateway_url(self) -> str:
        """Address of the speech gateway."""
        if self.public_ws_url is not None:
            return self.public_ws_url
        return self.base_url.replace("http", "ws", 1) + "/v1/ws"

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the store."""
        return self.database_url or f"sqlite:///{self.data_dir / 'avatar.db'}"


def load_settings(**overrides: Any) -> ApiSettings:
    """Settings from the environment; ``overrides`` win.

    Raises:
        SettingsError: one sentence per variable that cannot be used.
    """
    return load(ApiSettings, **overrides)
