"""Fetch the model files an engine needs, check their hashes, and say under which licence they are.

    python scripts/download_models.py                       # into the cache
    python scripts/download_models.py --to models-offline   # into a folder to carry elsewhere

On a machine without a network, copy such a folder there and set AVATAR_MODELS_DIR to it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models import assets
from models.assets import Asset, AssetError

ENGINES: dict[str, tuple[Asset, ...]] = {
    "warp": assets.ASSETS,
}
"""The files of each engine. Some may belong to several."""


def download(engines: list[str], folder: Path | None) -> list[tuple[Asset, Path]]:
    """Every file the engines need, fetched where it is missing or damaged.

    Args:
        engines: names out of ``ENGINES``.
        folder: where to; None: the cache, or AVATAR_MODELS_DIR, which is only looked into.

    Raises:
        AssetError: a file could not be had; says which and what to do.
    """
    wanted = list(dict.fromkeys(asset for name in engines for asset in ENGINES[name]))
    return list(zip(wanted, assets.ensure(*wanted, cache=folder), strict=True))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--engine", action="append", choices=sorted(ENGINES), help="may be repeated; default: all"
    )
    parser.add_argument("--to", type=Path, help="folder to put the files into; default: the cache")
    chosen = parser.parse_args(arguments)
    try:
        files = download(chosen.engine or sorted(ENGINES), chosen.to)
    except AssetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for asset, path in files:
        size = path.stat().st_size / 1e6
        print(f"{size:8.2f} MB  {asset.licence:<12}{path}  from {asset.source.label}")
    if chosen.to is not None:
        print(f"{len(files)} files; use them with AVATAR_MODELS_DIR={os.path.abspath(chosen.to)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
