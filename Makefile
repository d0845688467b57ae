# make demo   sets everything up and runs the main job on real images
# make test   sets everything up and passes the tests
# Needs Python >= 3.10, git and make; everything else goes into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEMO   ?= runs/demo

# Packages are compiled when they are first imported. Without a place for the byte code, each of
# the tests' many processes would compile PyTorch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test coverage tried lint typecheck format docs gpu-proof gpu-kit clean

demo: $(READY)
	$(BIN)/gsp-deploy demo --output $(DEMO) --force

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

coverage: export PYTEST_ADDOPTS = --cov --cov-report=term:skip-covered
coverage: test

tried: $(READY)
	GSP_TRIED=tests/hardening/TRIED.md $(BIN)/python -m pytest tests/hardening

# On a machine with a GPU: everything that only it can show, in some 20 minutes.
gpu-proof: $(READY)
	$(MAKE) -C plugins/gsp_pooling/lab
	$(BIN)/gsp-deploy export models/glyphs-lite0.safetensors -o build/glyphs-lite0.onnx --force
	$(BIN)/gsp-deploy doctor --selftest --full --lab plugins/gsp_pooling/lab/build/lab \
	  --tests tests --model build/glyphs-lite0.onnx -o build/proof.json --force
	@echo 'the page: build/proof.md; commit both files under docs/proof/'

# The same for a machine without this checkout, and without a network.
gpu-kit: $(READY)
	$(BIN)/python benchmarks/gpu_kit.py build/gpu-kit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/hadolint plugins/docker/*.Dockerfile

typecheck: $(READY)
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo 'the pages: build/site/index.html'

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "gsp-deploy needs Python 3.10 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo 'installing into $(VENV): some minutes, without a word'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) runs build dist *.egg-info
