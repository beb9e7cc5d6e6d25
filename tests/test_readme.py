"""The README is short, its Python runs, and nobody's name on the package index is given for ours."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) < 130 and max(map(len, lines)) <= 100


def test_its_python_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["run"].finished and not names["scores"].empty


def test_what_is_installed_by_name_is_ours():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "locus").rglob("*.py")]:
        assert not re.search(r"pip install[^\n]*\blocus(?!-audit)\b(?![/.])", path.read_text()), path
