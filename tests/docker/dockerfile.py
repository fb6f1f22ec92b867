"""Reads a Dockerfile as a builder reads it, and lays its files out as it would."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Step:
    stage: str
    word: str
    text: str


def steps(dockerfile: str) -> list[Step]:
    """Instructions in order, continued lines joined; the stage is the name after AS."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    stage, found = "", []
    for line in filter(str.strip, joined.splitlines()):
        word, _, text = line.strip().partition(" ")
        if word.upper() == "FROM":
            stage = re.split(r"\s+as\s+", text, flags=re.IGNORECASE)[-1]
        found.append(Step(stage, word.upper(), text.strip()))
    return found


def installed_packages(image) -> set[str]:
    """Names of the packages that the builder stage installs by ``pip install ".[${EXTRAS}]"``,
    without what they need in turn."""
    assert any('pip install ".[${EXTRAS}]"' in text for text in words(image, "RUN", "builder"))
    (extras,) = [text for text in words(image, "ARG", "builder") if text.startswith("EXTRAS=")]
    return required(extras.partition("=")[2].split(","))


def required(extras: list[str]) -> set[str]:
    """Names of the packages that ``pip install '.[extras]'`` asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    names = set()
    for line in lines:
        name = re.split(r"[^\w.-]", line)[0]
        if name == project["name"]:  # extras made of extras
            names |= required(re.search(r"\[(.+)\]", line)[1].split(","))
        else:
            names.add(name)
    return names


def words(image, word, stage=None):
    return [
        step.text for step in image if step.word == word and (stage is None or step.stage == stage)
    ]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out: the last rule that matches decides."""
    out = False
    for rule in (ROOT / ".dockerignore").read_text().split("\n"):
        rule = rule.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!")
        parents = [path, *(str(parent) for parent in Path(path).parents)]
        names = [pattern] + ([pattern[3:]] if pattern.startswith("**/") else [])
        if any(fnmatch.fnmatch(parent, name) for parent in parents for name in names):
            out = not rule.startswith("!")
    return out


def copy_as_the_image_does(image, stage: str, to: Path) -> None:
    for step in image:
        if step.stage != stage or step.word != "COPY" or "--from=" in step.text:
            continue
        *sources, target = step.text.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source, to / target, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                (to / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, to / target)


def run_there(folder: Path, *arguments: str) -> str:
    """Run this interpreter in ``folder`` alone: modules of the checkout are out of reach."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
