# make demo    the environment, then egs/mini from its first stage to its results table and pictures
# make test    the environment, then every check: ruff, shellcheck, types, pytest (what CI runs)
SHELL := bash
.PHONY: env demo test lint types unit clean

env: .venv/.complete

.venv/.complete: pyproject.toml utils/setup_env.sh
	utils/setup_env.sh

demo: env
	cd egs/mini && ./run.sh

test: lint types unit

lint: env
	. ./path.sh && ruff check .
	. ./path.sh && shellcheck -x $$(git ls-files '*.sh' .ci/run | sort -u)

types: env
	. ./path.sh && mypy

unit: env
	. ./path.sh && pytest -q --durations=10

clean:
	rm -rf egs/*/data egs/*/exp egs/*/corpus .pytest_cache .mypy_cache .ruff_cache
