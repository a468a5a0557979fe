# Every target sets up what it needs; `make quickstart` and `make test` are all a new machine has to know.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

export RAY_USAGE_STATS_ENABLED ?= 0
export RAY_AUTH_MODE ?= disabled

.PHONY: quickstart test lint base bench lock clean

quickstart: $(READY)  ## photos in, an edited portrait out: the whole system on this machine
	$(BIN)/drig quickstart $(ARGS)

# Two processes of one thread each: more threads than processors wait for one another. A file's tests share its servers.
test: $(READY)  ## every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every step goes on where it stopped. The first training counts all pixels alike, the others the head's more; the third
# is on people whom those before have not seen, the fourth on more of them, whose skin other photos of them show, the
# fifth on the same with paint on their faces, the sixth on 520 others beside them.
base: $(READY)  ## the released base rig, from nothing (MODEL_CARD.md)
	$(BIN)/drig synth --out runs/base/people --people 1000 --photos 5 --seed 3000003
	$(BIN)/drig extract --photos runs/base/people --aligned true --size 64 --store runs/base/buffers \
		--runs runs/base
	$(BIN)/drig stage1 --preset small --dataset runs/base/buffers --storage runs/base/first --runs runs/base \
		--training.samples 96000 --training.cooldown 0 --training.background_weight 1 --register false
	$(BIN)/drig stage1 --preset small --dataset runs/base/buffers --storage runs/base/stage1 --runs runs/base \
		--start runs/base/first/weights.safetensors \
		--training.samples 56000 --training.warmup 800 --training.cooldown 48000 --register false
	$(BIN)/drig synth --out runs/base/more_people --people 1200 --photos 5 --seed 4000003
	$(BIN)/drig extract --photos runs/base/more_people --aligned true --size 64 --store runs/base/more_buffers \
		--runs runs/base
	$(BIN)/drig stage1 --preset small --dataset runs/base/more_buffers --storage runs/base/third --runs runs/base \
		--start runs/base/stage1/weights.safetensors \
		--training.samples 96000 --training.warmup 800 --training.cooldown 72000 --register false
	$(BIN)/python -m drig.training.base render --folder runs/base/known --people 1240 --sizes 64
	$(BIN)/python -m drig.training.base train --folder runs/base/known --size 64 --people 720 --device cpu \
		--start runs/base/third/weights.safetensors --samples 96000 --cooldown 88000 --out fourth
	$(BIN)/python -m drig.training.base train --folder runs/base/known --size 64 --people 720 --device cpu \
		--start runs/base/known/fourth/base.safetensors --samples 24000 --rate 4e-4 --painted 0.6 --seed 7 --out fifth
	$(BIN)/python -m drig.training.base train --folder runs/base/known --size 64 --people 1240 --device cpu \
		--start runs/base/known/fifth/base.safetensors --samples 48000 --rate 5e-4 --painted 0.6 --seed 8 --out sixth
	cp runs/base/known/sixth/base.safetensors drig/assets/base.safetensors

bench: $(READY)  ## every benchmark, each a table; hours, and some look at what quickstart left
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

lock: $(READY)  ## resolve the requirements again after pyproject.toml changed
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra postgres --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 -o requirements.lock

$(READY): requirements.lock requirements-uv.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(BIN)/uv pip sync --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

clean:  ## the environment, the caches and the runs of quickstart
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache runs
