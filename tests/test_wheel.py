"""What is installed is whole: the wheel carries every file of the package, also those that are not Python."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


def test_the_wheel_carries_every_file_of_the_package(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(ZipFile(wheel).namelist())
    files = [path for path in (ROOT / "locus").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    missing = [path.relative_to(ROOT).as_posix() for path in files if path.relative_to(ROOT).as_posix() not in packed]
    assert not missing
    assert {"locus/report/page.html.j2", "locus/report/page.css"} <= packed
