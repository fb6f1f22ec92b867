"""What LiteRT prints when a network is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.assets import ASSETS, find
from models.face import network

ROOT = Path(__file__).parents[3]


def test_notes_are_dropped_and_everything_else_is_passed_on(capfd):
    with network._without_notes():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        os.write(2, b"ERROR: unsupported operation\n")
        os.write(2, b'{"event": "of another thread"}\n')
        os.write(2, b"no end of line")
    os.write(2, b"\nafterwards\n")
    kept = (
        'ERROR: unsupported operation\n{"event": "of another thread"}\nno end of line\nafterwards\n'
    )
    assert capfd.readouterr().err == kept


def test_what_was_printed_before_a_fault_is_kept(capfd):
    def broken() -> None:
        with network._without_notes():
            os.write(2, b"ERROR: the file is damaged\n")
            raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        broken()
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "ERROR: the file is damaged\nafterwards\n"


@pytest.mark.skipif(None in map(find, ASSETS), reason="make models")
def test_a_process_that_loads_networks_prints_nothing():
    program = "from models.face import default_analyzer; default_analyzer()"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
