"""RunPod serverless entry point: ``python -u runpod_handler.py``.

One job is one session; docs/deploy.md says how to deploy it and what a job holds. To run a session
on this machine, without RunPod::

    AVATAR_WORKER_RECORD_DIR=. python runpod_handler.py --test_input '{"input": {...}}'
    AVATAR_WORKER_RECORD_DIR=. python runpod_handler.py --rp_serve_api
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from models.engine import Engine


def main(load_engine: Callable[[], Engine] | None = None) -> int:
    """Serve jobs until told to stop; returns the exit status. The SDK reads its own arguments
    from the command line. ``load_engine``: another engine than the one the settings name."""
    from common.logs import configure_logging
    from worker.engines import engine_loader
    from worker.runpod.service import JobService, runpod_settings
    from worker.settings import SettingsError

    try:
        settings = runpod_settings(os.environ)
    except SettingsError as error:
        print(f"runpod_handler: {error}", file=sys.stderr)
        return 2
    configure_logging(settings.log)
    service = JobService(settings, load_engine or engine_loader(settings), os.environ)

    # As process 1 of a container it would not even hear SIGTERM while it warms up; once
    # it takes jobs, the SDK's handler and ours are there instead.
    if "RUNPOD_WEBHOOK_GET_JOB" in os.environ:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))

    # At its own default, DEBUG, the SDK writes a test job with its token into the log. Its modules
    # read the environment when they are imported.
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")
    import runpod

    @runpod.serverless.register_fitness_check
    def engine_renders() -> None:
        service.warm()

    runpod.serverless.start(
        {"handler": service.handle, "concurrency_modifier": service.concurrency}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
