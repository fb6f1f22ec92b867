"""``python -m worker``."""

import os
import sys

# Before numpy is loaded: its products here are small, and BLAS threads that wait for each other
# double the processor time of preparing a portrait on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from worker.cli import main

if __name__ == "__main__":
    sys.exit(main())
