"""Time zone data of another release, to compare with those in use."""

import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from zoneinfo import ZoneInfo

from app.cli.failures import Failure, Misuse
from schemas import zones

_IANA = re.compile(r"(20\d\d)([a-z])")
_PACKAGE = re.compile(r"20\d\d\.\d+(\.post\d+)?")
_LIMIT_S = 120


def other(version: str, zone: str) -> ZoneInfo:
    """Return a zone as another release has it.

    ``version``: a release (``2025b``) or version (``2025.2``) of the package tzdata, which pip fetches; a wheel of it;
    or a folder of TZif files, such as /usr/share/zoneinfo. Raises Misuse or Failure with what to do.
    """
    key = zones.canonical(zone)
    place = Path(version)
    if place.is_dir():
        return _of_folder(place, key)
    if place.is_file():
        return _of_wheel(place, key)
    if (named := _IANA.fullmatch(version)) is not None:
        version = f"{named[1]}.{ord(named[2]) - ord('a') + 1}"
    if not _PACKAGE.fullmatch(version):
        raise Misuse(
            f"--compare-tzdata {version!r}: send a release such as 2025b, a wheel of tzdata, or a folder of zones"
        )
    with tempfile.TemporaryDirectory(prefix="reminders-tzdata-") as folder:
        return _of_wheel(_fetched(version, Path(folder)), key)


def _fetched(version: str, folder: Path) -> Path:
    ask = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"tzdata=={version}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *ask]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Failure(f"--compare-tzdata: pip gives no answer ({exc}); name a wheel of tzdata instead") from exc
    found = sorted(folder.glob("*.whl"))
    if done.returncode or not found:
        why = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        raise Failure(f"--compare-tzdata: tzdata {version} cannot be fetched ({why}); name a wheel of it instead")
    return found[0]


def _of_wheel(wheel: Path, key: str) -> ZoneInfo:
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(f"tzdata/zoneinfo/{key}")
    except (OSError, zipfile.BadZipFile) as exc:
        raise Misuse(f"--compare-tzdata {wheel.name}: is no wheel of tzdata ({exc})") from exc
    except KeyError:
        raise Misuse(f"--compare-tzdata {wheel.name}: has no zone {key}") from None
    return ZoneInfo.from_file(io.BytesIO(data), key=key)


def _of_folder(folder: Path, key: str) -> ZoneInfo:
    try:
        with (folder / key).open("rb") as file:
            return ZoneInfo.from_file(file, key=key)
    except (OSError, ValueError) as exc:
        raise Misuse(f"--compare-tzdata {folder}: has no zone {key} that can be read ({exc})") from None
