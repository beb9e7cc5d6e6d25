"""Try every family and write docs/models.md: python -m studies.models [FAMILY ...] [--workers 2]."""

import argparse
import json
import os
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LOCUS_CACHE_GB", "0")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

from studies.models import page  # noqa: E402
from studies.models.build import families  # noqa: E402
from studies.models.sweep import sweep  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("families", nargs="*", help="only these; the others' results are kept")
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--to", type=Path, default=Path("runs/models"), help="folder of what is found, a file a family")
asked = parser.parse_args()
found = sweep(asked.families or families(), asked.to, asked.workers)
kept = json.loads(page.RESULTS.read_text())["families"] if asked.families and page.RESULTS.exists() else {}
page.write(dict(sorted({**kept, **found}.items())))
