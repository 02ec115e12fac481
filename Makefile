# make reproduce | test | setup | lab | notebooks | lint     (PYTHON=python3.12 chooses the interpreter)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2

.PHONY: help setup reproduce test unit notebooks-test lab notebooks lint clean

help:
	@echo "make reproduce   environment, then the main job: a papermill sweep, a table, runs/rooms-reproduce/report.html"
	@echo "make test        environment, then every test, the notebooks included"
	@echo "make setup       the environment alone (.venv)"
	@echo "make lab         JupyterLab on notebook 00"
	@echo "make notebooks   re-execute and normalise every notebook"
	@echo "make lint        ruff over code and notebooks"

setup: $(STAMP)

# The stamp is written last: an installation that was cut off is done again.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "mtlkit needs Python 3.11 to 3.13, found %d.%d; type: make setup PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[notebooks,dev]"
	@$(BIN)/python -c "import torch, torchvision" || { echo "torch and torchvision do not import together; type: rm -r $(VENV) && make setup"; exit 1; }
	@touch $@

reproduce: $(STAMP)
	$(BIN)/mtlkit sweep rooms-reproduce --jobs $(JOBS)
	$(BIN)/mtlkit report runs/rooms-reproduce

test: $(STAMP) lint unit notebooks-test

unit: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope

# nbval executes every notebook in a fresh kernel and compares the cells tagged nbval-check-output.
notebooks-test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=600 \
	    -n $(JOBS) --dist loadscope -p no:cacheprovider notebooks

lab: $(STAMP)
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

notebooks: $(STAMP)
	$(BIN)/python -m mtlkit.notebook

lint: $(STAMP)
	$(BIN)/ruff check mtlkit tests notebooks

clean:
	rm -rf $(VENV) build *.egg-info
