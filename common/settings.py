"""Settings read from environment variables, with one sentence for each that cannot be used; and the
settings that every server of ours has."""

from __future__ import annotations

import difflib
import ipaddress
import os
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings

Settings = TypeVar("Settings", bound=BaseSettings)


class SettingsError(ValueError):
    """The settings cannot be used; the text names each variable and what to do."""


class LogSettings(BaseModel):
    """How a process logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    """auto: for people where standard error is a terminal, JSON elsewhere."""


class ServerSettings(BaseSettings):
    """Where a server listens and how it is reached."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    public_url: str | None = Field(default=None, description="http(s) address clients reach us at")
    public_ws_url: str | None = Field(default=None, description="ws(s) address clients reach us at")
    log: LogSettings = LogSettings()

    @field_validator("public_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value and value.rstrip("/")

    @field_validator("public_ws_url")
    @classmethod
    def _ws_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("ws://", "wss://")):
            raise ValueError("must begin with ws:// or wss://")
        return value

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach us."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def load(model: type[Settings], **overrides: Any) -> Settings:
    """Settings from the environment; ``overrides`` win.

    Args:
        model: its ``env_prefix`` is what every variable begins with.
        overrides: values of its fields.

    Raises:
        SettingsError: one sentence per variable that cannot be used or is not one.
    """
    prefix = _prefix(model)
    known = variables(model)
    problems = _misspelt(known, prefix)
    try:
        settings = model(**overrides)
    except ValidationError as error:
        details = error.errors(include_input=False)
        problems += [_sentence(detail, known, prefix) for detail in details]
    except ValueError as error:  # a nested variable that is not JSON
        problems.append(f"{error}. Set nested values one by one, as in {prefix}LOG__LEVEL=info.")
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def variables(model: type[BaseModel], prefix: str | None = None) -> dict[str, str]:
    """Every variable with what it means."""
    if prefix is None:
        prefix = _prefix(model)
    names = {}
    for name, info in model.model_fields.items():
        variable = prefix + name.upper()
        names[variable] = info.description or ""
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names.update(variables(info.annotation, variable + "__"))
    return names


def _prefix(model: type[BaseModel]) -> str:
    return str(model.model_config.get("env_prefix", ""))


def _misspelt(known: dict[str, str], prefix: str) -> list[str]:
    problems = []
    for variable in os.environ:
        upper = variable.upper()
        if upper.startswith(prefix) and upper not in known:
            near = difflib.get_close_matches(upper, known, 1)
            hint = f"did you mean {near[0]}?" if near else "remove it."
            problems.append(f"{variable} is not a setting; {hint}")
    return problems


def _sentence(detail: Any, known: dict[str, str], prefix: str) -> str:
    variable = prefix + "__".join(str(part).upper() for part in detail["loc"])
    what = detail["msg"].removeprefix("Value error, ")
    meaning = known.get(variable)
    return f"{variable}: {what}." + (f" Meaning: {meaning}." if meaning else "")
