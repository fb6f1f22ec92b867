"""Print the project's dependencies, one per line, for pip: with the extras that are named.

    python scripts/requirements.py livekit daily > requirements.txt
    python scripts/requirements.py postgres s3 --without torch > requirements.txt

An image installs them in a step of its own, which is done again only when they change.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(
    extras: list[str], without: list[str] | None = None, pyproject: Path = PYPROJECT
) -> list[str]:
    """The dependencies of the project and of the extras, but for those named in ``without``.

    Raises:
        ValueError: an extra does not exist, or nothing depends on what is left out; names those
            that do.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    optional = project.get("optional-dependencies", {})
    if unknown := [extra for extra in extras if extra not in optional]:
        raise ValueError(f"no extra {', '.join(unknown)}; there are {', '.join(sorted(optional))}")
    lines = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    names = {line: re.split(r"[^\w.-]", line)[0].lower() for line in lines}
    left_out = {name.lower() for name in without or []}
    if strangers := left_out - set(names.values()):
        raise ValueError(f"no dependency {', '.join(sorted(strangers))}")
    return [line for line in lines if names[line] not in left_out]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--without", nargs="+", default=[], metavar="PACKAGE")
    given = parser.parse_args(arguments)
    try:
        print("\n".join(requirements(given.extras, given.without)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
