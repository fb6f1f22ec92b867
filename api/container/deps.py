"""What route functions ask for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.container.services import Services


def services_of(connection: HTTPConnection) -> Services:
    """The process's services."""
    found: Services = connection.app.state.services
    return found


async def services(connection: HTTPConnection) -> Services:
    """The same. (FastAPI would run a plain function in a thread.)"""
    return services_of(connection)


ServicesDep = Annotated[Services, Depends(services)]
