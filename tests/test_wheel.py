"""What is installed is whole: the wheel carries every file of the package, also those that are not Python."""

import subprocess
import sys
from email import message_from_bytes
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


def test_the_wheel_says_what_it_is(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("locus_audit-*.whl")
    with ZipFile(wheel) as packed:
        said = {Path(name).name: name for name in packed.namelist() if ".dist-info/" in name}
        about = message_from_bytes(packed.read(said["METADATA"]))
        assert (ROOT / "LICENSE").read_bytes() == packed.read(said["LICENSE"])
        assert packed.read(said["entry_points.txt"]).decode() == "[console_scripts]\nlocus = locus.cli:main\n"
    assert about["Name"] == "locus-audit" and about["License-Expression"] == "Apache-2.0"
    assert f'__version__ = "{about["Version"]}"' in (ROOT / "locus" / "__init__.py").read_text()
    assert {"demo", "hub", "peft", "docs", "dev"} <= set(about.get_all("Provides-Extra"))
    assert about.get_payload(decode=True).decode().strip() == (ROOT / "README.md").read_text().strip()
