# Every target makes .venv when there is none and installs what is missing; `make help` lists them.
#
#   PYTHON  the Python to build .venv from, 3.11 or newer (default: the first such python3 on the PATH)
#   ARGS    more arguments for the command, as in: make run ARGS="-p image_path my.jpg"
#   PHOTO   a photograph, or a folder of them, as in: make explain PHOTO=my.jpg
#   TABLE   which table of experiments/, as in: make experiments TABLE=layers (default: all)
#   CONFIG  the tables on other data: a folder with a config.yaml, as in: make experiments CONFIG=experiments/imagenet
#   AGAIN   make runs again that the committed tables hold already, as in: make experiments TABLE=layers AGAIN=1

PYTHON ?=
ARGS =
PHOTO =
export PHOTO
TABLE =
AGAIN =
CONFIG =

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
PY := $(BIN)/python
STAMP := .venv/.installed

CELL_TIMEOUT = 300

# Threads that wait for each other sleep, so that other work on this machine does not slow them down; see maskerlib/running/threads.py.
OMP_WAIT_POLICY ?= PASSIVE
export OMP_WAIT_POLICY

.DEFAULT_GOAL := help
.PHONY: help install run explain test test-browser experiments plan figures bench bench-precision lab notebooks weights lint clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-24s%s\n", $$1, $$2 }'

install: $(STAMP) ## make .venv and install the project into it (the other targets do so as well)

run: $(STAMP) ## execute the quickstart; your own photo: make run ARGS="-p image_path my.jpg"
	@$(PY) -m maskerlib.notebooks notebooks/00_quickstart.ipynb runs/quickstart/00_quickstart.ipynb \
	  --produces '{results}/metrics.json' --produces '{figures}/quickstart.png' $(ARGS)

explain: $(STAMP) ## show which pixels a classifier needed: make explain PHOTO=my.jpg
	@$(PY) -m maskerlib explain $(if $(PHOTO),"$$PHOTO") $(ARGS)

test: $(STAMP) ## run the tests, then every notebook in its smoke profile
	@MASKERLIB_PROFILE=smoke $(PY) -m pytest tests notebooks \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout=$(CELL_TIMEOUT) $(ARGS)

test-browser: $(STAMP) ## drive the explorers in JupyterLab with this machine's Chromium or Chrome; installs playwright
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[notebooks,test,browser]' --constraint constraints.txt
	@$(PY) -m pytest tests/browser -m browser $(ARGS)

experiments: $(STAMP) ## run what is left of the ablations and write their tables; one of them: make experiments TABLE=layers
	@$(PY) -m snakemake --snakefile experiments/Snakefile --profile experiments/profiles/local \
	  $(if $(TABLE)$(AGAIN)$(CONFIG),--config $(if $(TABLE),table=$(TABLE)) $(if $(AGAIN),again=true) \
	  $(if $(CONFIG),config=$(CONFIG))) $(ARGS)

plan: $(STAMP) ## list what is left of the ablations, and how long it should take; one table in detail: make plan TABLE=layers
	@$(PY) -m maskerlib.experiments plan $(TABLE) $(if $(CONFIG),--config $(CONFIG)) $(ARGS)

figures: $(STAMP) ## draw the figures of the ablations from figures/tables, which takes seconds
	@$(PY) -m maskerlib.experiments figures

bench: $(STAMP) ## measure steps, masks per second, evaluation, threads, loading and memory against plain references
	@$(PY) benchmarks/train_step.py $(ARGS)
	@$(PY) benchmarks/throughput.py $(ARGS)
	@$(PY) benchmarks/masks.py $(ARGS)
	@$(PY) benchmarks/threads.py $(ARGS)
	@$(PY) benchmarks/loader.py $(ARGS)
	@$(PY) benchmarks/index.py
	@$(PY) benchmarks/memory.py

bench-precision: $(STAMP) ## compare maskers trained in bf16 with maskers trained in fp32; takes longer
	@$(PY) benchmarks/precision.py $(ARGS)

lab: $(STAMP) ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab notebooks $(ARGS)

notebooks: $(STAMP) ## execute every notebook and its solutions, and store the outputs in them
	@for notebook in notebooks/*.ipynb notebooks/solutions/*.ipynb; do \
	  $(PY) -m maskerlib.notebooks "$$notebook" --in-place || exit 1; \
	done

weights: $(STAMP) ## pack what `make run` trained as the weights that travel with the package
	@$(PY) -m maskerlib.masker.pretrained runs/cache/scene-resnet-default-seed0 runs/quickstart

lint: $(STAMP) ## check the style of all Python files and notebooks, and the types of the package
	@$(PY) -m ruff check . $(ARGS)
	@$(PY) -m mypy

clean: ## remove caches and build leftovers; runs/ and .venv stay
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

distclean: clean ## remove .venv and runs/ too, with all that was trained
	@rm -rf .venv runs

# The stamp is written last, so an interrupted installation is taken up again by the next call. A package that was cut
# off while pip unpacked it has no INSTALLER record yet; it is forgotten first, so that pip unpacks it again.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if ! $(PY) -c pass 2>/dev/null; then \
	  rm -rf .venv; python=; \
	  for name in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$name"; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    found=$$($(or $(PYTHON),python3) --version 2>/dev/null) || found="not installed"; \
	    echo "maskerlib needs Python 3.11 or newer, but $(or $(PYTHON),python3) is $$found;" \
	      "install one and name it: make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12" >&2; \
	    exit 1; \
	  fi; \
	  echo "making .venv with $$("$$python" --version)"; \
	  "$$python" -m venv .venv || { rm -rf .venv; \
	    echo "$$python cannot make virtual environments; on Debian and Ubuntu install python3-venv" >&2; exit 1; }; \
	fi; \
	for info in .venv/lib/python*/site-packages/*.dist-info .venv/Lib/site-packages/*.dist-info; do \
	  if [ -d "$$info" ] && [ ! -f "$$info/INSTALLER" ]; then rm -rf "$$info"; fi; \
	done; \
	rm -rf .venv/lib/python*/site-packages/~* .venv/Lib/site-packages/~*; \
	$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null; \
	echo "installing maskerlib and what it needs; the first time takes a few minutes and several GB"; \
	$(PY) -m pip install --disable-pip-version-check --editable '.[notebooks,experiments,test]' --constraint constraints.txt; \
	touch $(STAMP)
