"""Plans: what accounts may do, read from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from api.records import Plan
from api.settings import PREFIX, SettingsError


class _PlanEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    concurrency: int = Field(ge=1)
    avatars_per_cycle: int | None = Field(default=None, ge=0)
    included_minutes: int | None = Field(default=None, ge=0)
    session_minutes: int | None = Field(default=None, ge=1)
    images_in_sessions: bool


class Plans:
    """Plans by key. An account whose plan is not in the file has the default one."""

    def __init__(self, plans: dict[str, Plan], default: str) -> None:
        """Raises ``SettingsError`` when there is no plan named ``default``."""
        if default not in plans:
            known = ", ".join(plans)
            raise SettingsError(f"{PREFIX}DEFAULT_PLAN={default} is no plan; there are: {known}")
        self._plans = plans
        self._default = default

    def get(self, key: str) -> Plan:
        """The plan named ``key``, or the default plan."""
        return self._plans.get(key) or self._plans[self._default]

    def __contains__(self, key: str) -> bool:
        return key in self._plans

    def __iter__(self) -> Iterator[Plan]:
        return iter(self._plans.values())


def load_plans(path: Path | None, default: str) -> Plans:
    """Plans of a file; None: the built-in ones (``api/plans.toml``).

    Raises:
        SettingsError: the file cannot be used; says where and why.
    """
    name = str(path or "api/plans.toml")
    try:
        text = (
            path.read_text("utf-8")
            if path is not None
            else resources.files("api").joinpath("plans.toml").read_text("utf-8")
        )
        entries = TypeAdapter(dict[str, _PlanEntry]).validate_python(tomllib.loads(text))
    except OSError as error:
        raise SettingsError(f"{name}: {error.strerror}; set {PREFIX}PLANS_FILE") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name}: {error}") from error
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise SettingsError(f"{name}: {where}: {detail['msg']}") from error
    return Plans(
        {key: Plan(key=key, **entry.model_dump()) for key, entry in entries.items()}, default
    )
