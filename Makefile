# Everything a developer or a new user runs. Needs make and Python 3.11 or newer.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-agent-alone lint types proto check-generated bench dist clean

$(STAMP): pyproject.toml proto/pyproject.toml agent/pyproject.toml collector/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet -e ./proto -e ./agent -e ./collector --group dev
	touch $@

demo:
	@PYTHON="$(PYTHON)" packaging/demo/prepare.sh
	@[ -e $(STAMP) ] || echo "make demo: making the virtual environment $(VENV); this takes a minute, once"
	@$(MAKE) --silent --no-print-directory $(STAMP)
	@$(BIN)/python packaging/demo/demo.py

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

# Installed anew each time: as a host has it, not as links to this tree.
test-agent-alone: .venv-agent/.installed
	rm -rf proto/build agent/build
	.venv-agent/bin/pip install --quiet --no-deps --force-reinstall ./proto ./agent
	.venv-agent/bin/pytest -n 2 tests/unit/agent tests/unit/proto tests/agent_alone $(ARGS)

.venv-agent/.installed: pyproject.toml proto/pyproject.toml agent/pyproject.toml
	$(PYTHON) -m venv .venv-agent
	.venv-agent/bin/pip install --quiet --upgrade "pip>=25.1"
	.venv-agent/bin/pip install --quiet ./proto ./agent --group test
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	cd proto && ../$(BIN)/buf lint

types: $(STAMP)
	$(BIN)/mypy

PROTOC_VENV := .venv-protoc
$(PROTOC_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(PROTOC_VENV)
	$(PROTOC_VENV)/bin/pip install --quiet --upgrade "pip>=25.1"
	$(PROTOC_VENV)/bin/pip install --quiet --group generate
	touch $@

PROTOS   := pyrsyncbackup/v1/agent.proto pyrsyncbackup/v1/relay.proto
# $(call generate,DIRECTORY)
generate  = $(PROTOC_VENV)/bin/python -m grpc_tools.protoc --proto_path=proto \
	  --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) $(PROTOS)

proto: $(PROTOC_VENV)/.installed
	$(call generate,proto)

# Compares with what is generated beside the tree, so it says the same whatever else was changed.
check-generated: $(PROTOC_VENV)/.installed
	rm -rf build/generated && mkdir -p build/generated
	$(call generate,build/generated)
	cd build/generated && find . -type f -exec cmp {} ../../proto/{} \;  > ../differs 2>&1; \
	  if [ -s ../differs ]; then cat ../differs; echo "run \`make proto\` and commit what it wrote"; exit 1; fi

# Wheel and source of each distribution; the wheels install together without this tree.
dist: $(STAMP)
	rm -rf dist build proto/build agent/build collector/build
	for part in proto agent collector .; do $(BIN)/python -m build --quiet --no-isolation --outdir dist $$part || exit 1; done

bench: $(STAMP)
	$(BIN)/python -m tests.bench $(ARGS)

clean:
	rm -rf $(VENV) $(PROTOC_VENV) .venv-agent build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis */build */*.egg-info
