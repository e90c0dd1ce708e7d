# Nothing to activate: every target uses the environment in .venv, which `make setup` builds.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_OPTIONS ?=  # more options for pip's torch step, e.g. pytorch.org's --index-url for CPU-only wheels
PROFILE ?= quick
ONLY ?=
ARGS ?=

# threads that wait sleep: see hrlib/__init__.py; here for notebooks and tests that import torch first
export OMP_WAIT_POLICY ?= PASSIVE

BIN := .venv/bin
STAMP := .venv/.set-up
SYSTEM_LIBRARIES := libstdc++6 libusb-1.0-0 libegl1 libgl1 libx11-6 libgomp1
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb notebooks/class/*.ipynb))
TORCH = $(shell sed -n 's/^torch==/torch==/p' requirements.lock)

# what a prediction needs is compiled once: here, not while somebody waits for a hand
define FIRST_HAND
import hrlib, numpy as np
hand = hrlib.load_hand()
x, y, z = hrlib.pose_hand(hand, hand.rest_rotations, (0, 0, 500)).vertices_mm.numpy().T
depth = np.zeros((240, 320))
for step in np.ndindex(3, 3):
    depth[(300 * y / z + 119).astype(int) + step[0], (300 * x / z + 159).astype(int) + step[1]] = z
hrlib.predict(depth, (300, 300))
endef
export FIRST_HAND

.DEFAULT_GOAL := help
.PHONY: help setup system-libraries figures test lint format lab picture hand site wheel bench evaluate viewer lock gpu-check clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F'\t' '{ printf "  make %-18s %s\n", $$1, $$2 }'

setup: $(STAMP)  ## the environment in .venv (PYTHON=python3.12 for another Python)

# torch first and alone: next to other requirements pip may choose builds that bring several GB of CUDA packages
$(STAMP): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "no python3 found: install Python 3.11, or make setup PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 13) else "hrlib needs Python 3.11 or 3.12, $(PYTHON) is %d.%d: make setup PYTHON=python3.11" % v[:2])'
	@$(MAKE) --no-print-directory system-libraries
	@echo "setting up .venv: about 2 minutes, longer where the network is slow"
	@$(PYTHON) -m venv .venv || { echo "no venv module? Debian, Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PIP) "pip>=23.1"
	@echo "  $(TORCH), the largest part" && $(PIP) $(TORCH_OPTIONS) $(TORCH)
	@echo "  everything else" && $(PIP) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@echo "  kernels, which numba compiles" && $(BIN)/python -c "$$FIRST_HAND" || echo "  they compile when they are first used"
	@touch $(STAMP)

system-libraries:  ## what NumPy and open3d need on Linux: installed where we may, otherwise said how
	@[ "$$(uname -s)" = Linux ] || exit 0; \
	missing=""; for name in libstdc++.so libusb-1.0.so libEGL.so libGL.so libX11.so libgomp.so; do \
	  { ldconfig -p 2>/dev/null || /sbin/ldconfig -p; } | grep -q "$$name" || missing="$$missing $$name"; done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing $(SYSTEM_LIBRARIES)"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(SYSTEM_LIBRARIES) >/dev/null && exit 0; \
	  echo "apt-get failed; going on without:$$missing"; \
	fi; \
	echo "open3d (only for building the hand asset and some tests) lacks$$missing; without libstdc++ nothing runs"; \
	echo "  sudo apt-get install $(SYSTEM_LIBRARIES)"; \
	echo "  or: conda install -c conda-forge libstdcxx libusb libegl libgl xorg-libx11 libgomp"

figures: $(STAMP)  ## regenerate the figures (PROFILE=smoke|quick|full, ONLY="03 04")
	@$(BIN)/python -m hrlib reproduce --profile $(PROFILE) $(if $(ONLY),--only $(ONLY))

# a process for each core, each with one thread: threads of several processes on the same cores wait for each other
test: $(STAMP)  ## all tests and every notebook in the smoke profile (make test NOTEBOOKS= ARGS="-m 'not slow'" for the quick ones)
	@HRLIB_PROFILE=smoke OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 \
	  --dist worksteal --nbmake --nbmake-timeout=300 tests $(NOTEBOOKS) $(ARGS)

lint: $(STAMP)  ## ruff over code and notebooks, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## let ruff mend style, and strip the notebooks' outputs
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .
	@$(if $(NOTEBOOKS),$(BIN)/nbstripout $(NOTEBOOKS))

lab: $(STAMP)  ## JupyterLab on the notebooks
	@JUPYTER_CONFIG_PATH="$(CURDIR)/.jupyter" $(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

picture: $(STAMP)  ## README's moving picture, from real frames
	@$(BIN)/python docs/moving_picture.py

hand: $(STAMP)  ## the hand with its sliders as a page for any browser: build/hand_page/index.html
	@$(BIN)/python docs/hand_page/write.py

site: $(STAMP)  ## the documentation as build/site/index.html, with the notebooks that `make figures` has executed
	@$(BIN)/python -m sphinx -b html -q -j auto docs build/site && echo "the site: build/site/index.html"

wheel: $(STAMP)  ## build the wheel, install it into a fresh environment without extras, and run the docs' Python and commands with it elsewhere
	@$(BIN)/python tests/check_wheel.py

bench: $(STAMP)  ## measure speed again (benchmarks/results, then the figure of notebook 08); a machine with nothing else to do
	@set -e; for part in render skinning predict step fit growth pretrain viewer; do \
	  echo "benchmarks/bench_$$part.py"; $(BIN)/python benchmarks/bench_$$part.py; done
	@$(BIN)/python -m hrlib reproduce --only 08

evaluate: $(STAMP)  ## the test people and the real people with joints, once (HRLIB_DATA_MIRROR names their folder; an hour)
	@$(BIN)/python benchmarks/evaluate.py $(ARGS)

viewer:  ## bundle viewer/src/viewer.js into hrlib/companion/static (needs Node.js; the bundle is committed)
	@cd viewer && npm ci --silent && npm run --silent build

lock:  ## remake requirements.lock from pyproject.toml in a clean environment (Linux x86-64, Python 3.11)
	@rm -rf build/lock && mkdir -p build && $(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet $(TORCH_OPTIONS) $(TORCH)
	@build/lock/bin/python -m pip install --quiet '.[dev,docs,open3d]' 'setuptools>=77'
	@build/lock/bin/python -m pip check
	@{ echo '# Exact versions of everything, tests and open3d included (without anny). Remake: make lock'; \
	  build/lock/bin/python -m pip freeze --all --exclude pip --exclude hrlib \
	  | grep -viE '^(nvidia-|cuda-)' \
	  | sed -E -e 's/\+cpu$$//' \
	    -e "s/^triton==.*/&; sys_platform == 'linux' and platform_machine == 'x86_64'/" \
	    -e "s/^open3d-cpu==(.*)/open3d==\1; sys_platform != 'linux' or platform_machine != 'x86_64'\nopen3d-cpu==\1; sys_platform == 'linux' and platform_machine == 'x86_64'/" \
	  | LC_ALL=C sort -f; } > build/requirements.lock
	@mv build/requirements.lock requirements.lock && rm -rf build/lock && wc -l requirements.lock

gpu-check: $(STAMP)  ## on a CUDA machine: back ends agree, timings, a piece of training, within 10 minutes (ARGS="--minutes 5")
	@$(BIN)/python benchmarks/gpu_check.py $(ARGS)

clean:  ## remove build products and caches; .venv, fetched data, and trainings and refinements in runs/ stay
	@rm -rf build .pytest_cache .ruff_cache *.egg-info
	@find hrlib tests notebooks benchmarks data -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
