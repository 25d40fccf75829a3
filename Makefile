# Every target makes the environment that it needs; PYTHON names the interpreter to make it with.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all lint docs pictures benchmark clean

demo: $(VENV)/demo.installed
	$(BIN)/python examples/demo.py --out output/demo

test: $(VENV)/test.installed
	$(BIN)/python -m pytest -q -m "not slow" --durations=10

test-all: $(VENV)/test.installed
	$(BIN)/python -m pytest -q --durations=20

lint: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/docs.installed
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

benchmark: $(VENV)/benchmarks.installed
	$(BIN)/python tests/benchmarks/step.py --out docs/benchmarks/step.txt

pictures: $(VENV)/demo.installed
	$(BIN)/python docs/make_pictures.py

clean:
	rm -rf $(VENV) output docs/_build build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/made:
	$(PYTHON) -m venv $(VENV)
	touch $@

# Each kind of use installs its extra; setup.cfg and constraints.txt say what with.
$(VENV)/demo.installed: $(VENV)/made setup.cfg constraints.txt
	$(INSTALL) -e '.[examples]'
	touch $@

$(VENV)/test.installed: $(VENV)/made setup.cfg constraints.txt
	$(INSTALL) -e '.[test]'
	touch $@

$(VENV)/benchmarks.installed: $(VENV)/made setup.cfg constraints.txt
	$(INSTALL) -e '.[benchmarks]'
	touch $@

$(VENV)/docs.installed: $(VENV)/made setup.cfg constraints.txt
	$(INSTALL) -e '.[docs]'
	touch $@
