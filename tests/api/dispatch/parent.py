"""A process that spawns a worker and is killed: ``python parent.py``; prints the worker's pid."""

import asyncio
import sys
from pathlib import Path

from api.dispatch.spawn import SpawnedWorker
from api.settings import LogSettings

ROOT = Path(__file__).parents[3]


async def run() -> None:
    command = (sys.executable, "-m", "tests.fakes.resident_process")
    worker = SpawnedWorker(LogSettings(), drain_s=30, command=command)
    await worker.start()
    while worker.pid is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    print("spawned", worker.pid, worker.address, worker.secret.get_secret_value(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run())
