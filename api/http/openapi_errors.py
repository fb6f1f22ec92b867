"""What the OpenAPI document says of answers other than success."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.http.errors import CATALOGUE


def _no_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class ErrorDetail(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(description="for programs; see the endpoint's description")
    message: str
    suggestion: str = Field(
        default="", description="what to do about it", json_schema_extra=_no_default
    )
    details: dict[str, Any] = Field(
        default={}, description="figures", json_schema_extra=_no_default
    )


class ErrorAnswer(BaseModel):
    """An endpoint's error."""

    model_config = ConfigDict(extra="forbid")

    success: Literal[False]
    error: ErrorDetail


class UnauthorizedAnswer(BaseModel):
    """401: the API key is missing, unknown or deactivated."""

    model_config = ConfigDict(extra="forbid")

    error: str


class RateLimitedAnswer(BaseModel):
    """429 of the rate limit; ``Retry-After`` says how many seconds to wait."""

    model_config = ConfigDict(extra="forbid")

    success: Literal[False]
    error: str


_ALWAYS = ("INTERNAL_ERROR",)


def openapi_errors(
    *codes: str, keyed: bool = True, also: dict[int, tuple[str, ...]] | None = None
) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may answer with these codes of the catalogue.

    ``keyed`` routes add 401 and the rate limit's 429. ``also``: codes the catalogue does not have,
    by status.
    """
    by_status: dict[int, list[str]] = {}
    for code in (*codes, *_ALWAYS):
        by_status.setdefault(CATALOGUE[code].status, []).append(code)
    for status, more in (also or {}).items():
        by_status.setdefault(status, []).extend(more)
    answers: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": ", ".join(found)}
        for status, found in sorted(by_status.items())
    }
    if keyed:
        answers[401] = {
            "model": UnauthorizedAnswer,
            "description": "API key required, Invalid API key, API key is deactivated",
        }
        limited = "Too many requests"
        if 429 in answers:
            answers[429] = {
                "model": ErrorAnswer | RateLimitedAnswer,
                "description": f"{limited}, {answers[429]['description']}",
            }
        else:
            answers[429] = {"model": RateLimitedAnswer, "description": limited}
    return answers
