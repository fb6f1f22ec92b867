"""What route functions ask for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.services import Services


async def services(connection: HTTPConnection) -> Services:
    """The process's services. (FastAPI would run a plain function in a thread.)"""
    found: Services = connection.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]
