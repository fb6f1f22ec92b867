"""Fetch the model files an engine needs, check their hashes, and say under which licence they are.

    python scripts/download_models.py                       # the default engine's, into the cache
    python scripts/download_models.py ditto                 # Ditto's release too: 2.2 GB
    python scripts/download_models.py --to models-offline   # into a folder to carry elsewhere

On a machine without a network, copy such a folder there and set AVATAR_MODELS_DIR to it. Ditto's
files come from Hugging Face, or from the host that AVATAR_MODELS_MIRROR names instead, or with
``--from`` from a folder; what was cut off goes on where it ended.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models import assets
from models.assets import Asset, AssetError

ENGINES: dict[str, tuple[Asset, ...]] = {
    "warp": assets.ASSETS,
    "ditto": assets.ASSETS,
}
"""The files of each engine. Some may belong to several."""

DEFAULT = ["warp"]


def download(
    engines: list[str],
    folder: Path | None,
    source: Path | None = None,
    log: Callable[[str], None] | None = None,
) -> list[tuple[Asset, Path]]:
    """Every file the engines need, fetched where it is missing or damaged.

    Args:
        engines: names out of ``ENGINES``.
        folder: where to; None: the cache, or AVATAR_MODELS_DIR, which is only looked into.
        source: a folder to take files from, where it has them.
        log: called with a line before each fetch; default: printed on standard error.

    Raises:
        AssetError: a file could not be had; says which and what to do.
    """
    wanted = list(dict.fromkeys(asset for name in engines for asset in ENGINES[name]))
    if source is not None:
        _take(wanted, source, folder or assets.cache_dir())
    return list(zip(wanted, assets.ensure(*wanted, cache=folder, log=log), strict=True))


def _take(wanted: list[Asset], source: Path, folder: Path) -> None:
    """Copy the assets that ``source`` has."""
    for asset in wanted:
        if (found := source / asset.name).is_file():
            assets.verify(found, asset.sha256)
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / f"{asset.name}.part"
            shutil.copyfile(found, part)
            os.replace(part, folder / asset.name)


def download_ditto(chosen: argparse.Namespace) -> None:
    """Ditto's release into its folder, or checked where AVATAR_MODELS_DIR says it is.

    Raises:
        models.ditto.weights.download.DownloadError: a file could not be had; says which and what
            to do.
    """
    from models.ditto.files import model_folder
    from models.ditto.weights.download import LICENCES, fetch, verify
    from models.ditto.weights.release import RELEASE

    if chosen.to is None and os.environ.get("AVATAR_MODELS_DIR"):
        paths = verify(model_folder())
    else:
        folder = model_folder() if chosen.to is None else chosen.to / "ditto"
        source = chosen.source
        if source is not None and (source / "ditto").is_dir():
            source = source / "ditto"
        paths = fetch(folder, chosen.include, source, any_size=chosen.any_size)
    files = {file.name: file for file in RELEASE}
    for path in paths:
        file, size = files[path.name], path.stat().st_size / 1e6
        print(f"{size:8.2f} MB  {file.licence:<12}{path}  by {file.origin}")
    print(f"licences: {paths[0].parent / LICENCES}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engines", nargs="*", metavar="engine", help=", ".join(sorted(ENGINES)))
    parser.add_argument("--engine", action="append", choices=sorted(ENGINES), help="the same")
    parser.add_argument("--to", type=Path, help="folder to put the files into; default: the cache")
    parser.add_argument("--from", dest="source", type=Path, help="folder to take the files from")
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="FILE",
        help="fetch this file of Ditto's release besides; the only way to those that may not be "
        "used commercially",
    )
    parser.add_argument(
        "--any-size", action="store_true", help="take files of another size than the known release"
    )
    chosen = parser.parse_args(arguments)
    engines = [*chosen.engines, *(chosen.engine or [])] or DEFAULT
    if unknown := [name for name in engines if name not in ENGINES]:
        parser.error(f"no engine {', '.join(unknown)}; there are {', '.join(sorted(ENGINES))}")
    fetched: list[str] = []

    def fetching(line: str) -> None:
        fetched.append(line)
        print(line, file=sys.stderr)

    try:
        files = download(engines, chosen.to, chosen.source, fetching)
        if files and not (fetched or chosen.to or chosen.source):  # every start of `make serve`
            print(f"{len(files)} model files are in {files[0][1].parent}")
        else:
            for asset, path in files:
                size = path.stat().st_size / 1e6
                print(f"{size:8.2f} MB  {asset.licence:<12}{path}  from {asset.source.label}")
        if "ditto" in engines:
            download_ditto(chosen)
    except AssetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if chosen.to is not None:
        print(f"{len(files)} files; use them with AVATAR_MODELS_DIR={os.path.abspath(chosen.to)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
