# Every target makes the environment that it needs; PYTHON names the interpreter to make it with.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SMOKE = tests/test_run.py tests/test_state.py tests/test_bigan.py "tests/test_docs.py::test_a_pages_python_blocks_run[README.md]"
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Tests run one a core, since their tensors are too small to share among threads.
TEST = -m pytest -q -n logical --maxprocesses 4 --dist worksteal

.PHONY: demo test test-all test-oldest test-newest lint docs pictures benchmark dist clean

demo: $(VENV)/demo.installed
	$(BIN)/python examples/demo.py --out output/demo

test: $(VENV)/test.installed
	$(BIN)/python $(TEST) -m "not slow" --durations=10

test-all: $(VENV)/test.installed
	$(BIN)/python $(TEST) --durations=20

# Environments of their own: the oldest versions that setup.cfg allows, and the newest that install.
test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python $(TEST) -m "not slow"

test-newest: .venv-newest/installed
	.venv-newest/bin/python $(TEST) -m "not slow"

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

# The installed copy is tested from a folder of its own, so that the package of this tree is not in the way.
dist: $(VENV)/release.installed
	rm -rf dist build
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv build/venv
	build/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(ls dist/*.whl)[test]"
	mkdir build/unpacked && tar -xf dist/*.tar.gz -C build/unpacked --strip-components=1
	rm -r build/unpacked/pyro_gan
	cd build/unpacked && ../venv/bin/python -P -m pytest -q -m "not slow" $(SMOKE)

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest output docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

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

$(VENV)/release.installed: $(VENV)/made setup.cfg constraints.txt
	$(INSTALL) -e '.[release]'
	touch $@

.venv-oldest/installed: setup.cfg constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e '.[test]'
	touch $@

.venv-newest/installed: setup.cfg
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade -e '.[test]'
	touch $@
