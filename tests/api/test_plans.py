from __future__ import annotations

from pathlib import Path

import pytest

from api.plans import load_plans
from api.records import Plan
from api.settings import SettingsError


def test_the_built_in_plans() -> None:
    plans = load_plans(None, "enterprise")
    table = [
        (plan.key, plan.concurrency, plan.avatars_per_cycle, plan.images_in_sessions)
        for plan in plans
    ]
    assert table == [
        ("free", 1, 0, False),
        ("explorer", 5, 20, True),
        ("growth", 10, 60, True),
        ("pro", 20, 180, True),
        ("enterprise", 100, None, True),
    ]
    assert [(plan.included_minutes, plan.session_minutes) for plan in plans] == [
        (120, 60),
        (500, 120),
        (1500, 180),
        (4000, 240),
        (None, None),
    ]


def test_an_unknown_plan_is_the_default_one() -> None:
    plans = load_plans(None, "growth")
    assert plans.get("gone").key == "growth"
    assert plans.get("free").key == "free"
    assert "gone" not in plans


def test_plans_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    file.write_text('[team]\nname = "Team"\nconcurrency = 3\nimages_in_sessions = false\n')
    assert list(load_plans(file, "team")) == [Plan("team", "Team", 3, None, None, None, False)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[team", r"plans\.toml: "),
        ('[team]\nname = "T"\nconcurrency = 0\nimages_in_sessions = true', "team.concurrency"),
        ('[team]\nname = "T"\nconcurrency = 1', r"team\.images_in_sessions: Field required"),
        (
            '[team]\nname = "T"\nconcurrency = 1\nimages_in_sessions = true\nprice = 3',
            r"team\.price: Extra inputs",
        ),
        (
            '[other]\nname = "T"\nconcurrency = 1\nimages_in_sessions = true',
            "DEFAULT_PLAN=team is no plan; there are: other",
        ),
    ],
)
def test_a_file_we_cannot_use_says_where_and_why(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "plans.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        load_plans(file, "team")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="set AVATAR_API_PLANS_FILE"):
        load_plans(tmp_path / "none.toml", "team")
