"""The documents and the code agree."""

import re
from pathlib import Path

import pytest

from api.http.errors import CATALOGUE
from api.settings import ApiSettings
from common.settings import variables

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documents come with a checkout only")


def test_every_setting_is_documented_and_nothing_else():
    text = (DOCS / "configuration.md").read_text()
    known = variables(ApiSettings)
    settings = {name for name in known if not any(f"{name}__" in other for other in known)}
    documented = set(re.findall(r"^\| `(AVATAR_API_\w+)` \|", text, re.MULTILINE))
    assert documented == settings
    assert len(settings) > 40


def test_every_error_code_is_in_the_api_document():
    text = (DOCS / "api.md").read_text()
    assert [code for code in CATALOGUE if f"`{code}`" not in text] == []


def test_every_metric_is_in_the_operators_document():
    from prometheus_client import CollectorRegistry

    from api.gateway.metrics import GatewayMetrics
    from api.metrics import ApiMetrics

    registry = CollectorRegistry()
    GatewayMetrics(registry)
    names = {family.name for family in registry.collect()}
    names |= {family.name for family in ApiMetrics().registry.collect()}
    text = (DOCS / "operate.md").read_text()
    assert len(names) > 10
    assert [name for name in names if f"`{name}" not in text] == []
