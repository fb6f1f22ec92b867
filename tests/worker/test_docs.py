"""The documents and the code agree."""

from pathlib import Path

import pytest

from common.settings import variables
from worker.settings import WorkerSettings

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.skipif(not DOCS.is_dir(), reason="the documents come with a checkout only")
def test_every_setting_is_documented():
    text = (DOCS / "configuration.md").read_text()
    settings = [name for name in variables(WorkerSettings) if f"{name}__" not in text]
    assert len(settings) > 20
    assert [name for name in settings if f"| `{name}` |" not in text] == []
