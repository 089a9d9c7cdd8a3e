# `make demo` and `make test` are the only set-up there is: each first makes the checkout ready (tools/bootstrap), which
# costs nothing when it already is.

PY := .venv/bin/python
export PATH := $(PATH):/usr/sbin:/sbin
# What varies a run comes from the environment or the command line: SEED, SECONDS, RATE for the demo; SEED,
# HOURS, HOSTS for the simulation; FRAMES, SWAPS, EDITS, SEED for soaks; ARGS goes to pytest.
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help ready demo test check lint types house proto docs format sim spin museum soak cycles crash-matrix fleet swap-soak swap-table rewire-soak swap-verdict power-cuts bench-ring bench-bridge bench-spool bench-swap bench-handover bench-delta bench-agent bench native dist bundle clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

ready: ## install and build what is missing; the other targets do this by themselves
	@tools/bootstrap test

demo: ## swap a live 1+1 stream blue/green over a failing link, count what is lost (SEED= SECONDS= RATE=)
	@tools/bootstrap demo
	@$(PY) examples/demo/run.py

test: ready ## run the tests (ARGS= goes to pytest)
	@PY=$(PY) tools/test $(ARGS)

check: lint types proto test ## everything that must hold before a commit
	@echo "make check: all held"

lint: ready
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .

types: ready
	@$(PY) -m mypy

house: ready ## only the rules of the house: imports, limits, documents (part of test)
	@$(PY) -m pytest -q tests/house

proto: ready
	@$(PY) proto/generate.py --check

docs: ready ## write docs/cli.md and docs/manifests.md from the program
	@$(PY) tools/reference.py

format: ready ## format the code and fix what ruff can fix
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

sim: ready ## run the whole fleet in simulation, by seeds, and watch its invariants (HOURS= HOSTS= SEED= SECONDS_AT_MOST=); writes sim.json
	@$(PY) -m tests.sim.run

spin: ready ## search every state that a swap can come to, within bounds, and find every planted mistake; needs Debian's spin; writes spin.json
	@$(PY) -m tests.spin.run

museum: ready ## plant the bugs that users of other systems have reported, and see each found by the simulation or a property (ONLY=word,word); writes museum.json
	@$(PY) -m tests.museum.run

soak: ready ## frames of all sizes through rings while readers and writers come, go and are killed, every byte checked (FRAMES= SEED=); writes soak.json
	@$(PY) -m tests.soak.run

cycles: ready ## make, join, leave and remove a ring, again and again, and look for what is left (COUNT=); writes cycles.json
	@$(PY) -m tests.soak.cycles

swap-soak: ready ## a pair on two hosts through swaps, while its members, merge, bridges, agents and link are killed and cut; every output checked (FRAMES= SWAPS= SEED= RATE= TROUBLES= SURGE=); writes swap-soak.json
	@$(PY) -m tests.soak.swap_run

swap-table: ready ## a swap for every fault in every phase, on real agents; every output checked (PLACES= of each fault, 0: all ten; SEED=); writes swap-table.json
	@$(PY) -m tests.soak.table_run

rewire-soak: ready ## a live graph on two hosts, edited by two operators and swapped, while its processes, agents and link are killed and cut; every output checked (EDITS= SEED= RATE= TROUBLES=); writes rewire-soak.json
	@$(PY) -m tests.soak.rewire_run

crash-matrix: ready ## kill the real agent and the real controller at each write, sync, rename and spawn, cut the power, fail the disk; look whether they converge (POINTS= SEED= FROM= ONLY=); writes crash-matrix.json
	@$(PY) -m tests.crash.run

fleet: ready ## machines with their own systemd, the agents and the controller as their units: reboots and power cuts offline, watchdogs, updates of the agent, wrong clocks, full disks; needs Debian's systemd-container (ONLY=trial,trial); writes fleet.json
	@$(PY) -m tests.fleet.run

power-cuts: ready ## power cuts of either host of a pair, and of both, under a stream whose source cannot repeat itself (CUTS=, SEED=); writes power-cuts.json
	@$(PY) -m tests.soak.power_run

swap-verdict: ready ## greens that differ, are slow, or may pass, judged on two hosts (CASES=, 0: all; RATE=); writes swap-verdict.json
	@$(PY) -m tests.soak.verdict_run

bench-ring: ready ## measure the ring against its peers, about five minutes; writes bench-ring.jsonl (ARGS= goes to benchmarks/ring.py)
	@$(PY) -c 'import iceoryx2, nats, redis' 2>/dev/null || $(PY) -m pip install -q -e '.[bench]' || echo "some peers cannot be had here"
	@$(PY) benchmarks/ring.py --write bench-ring.jsonl $(ARGS)

bench-bridge: ready ## measure the bridge against its peers over loopback, about three minutes; writes bench-bridge.jsonl (ARGS=)
	@$(PY) -c 'import numpy' 2>/dev/null || $(PY) -m pip install -q -e '.[bench]' || echo "numpy cannot be had here"
	@$(PY) benchmarks/bridge.py --write bench-bridge.jsonl $(ARGS)

bench-spool: ready ## measure a spool beside its disk, about half a minute (ARGS= goes to benchmarks/spool.py)
	@$(PY) -c 'import numpy' 2>/dev/null || $(PY) -m pip install -q -e '.[bench]' || echo "numpy cannot be had here"
	@$(PY) benchmarks/spool.py $(ARGS)

bench-swap: ready ## a pair through cuts, deaths and swaps, against its steady state, a PyZMQ script and JetStream, about five minutes; writes bench-swap.jsonl (ARGS=)
	@$(PY) -c 'import nats, numpy' 2>/dev/null || $(PY) -m pip install -q -e '.[bench]' || echo "some peers cannot be had here"
	@$(PY) benchmarks/swap.py --write bench-swap.jsonl $(ARGS)

bench-handover: ready ## hand a state of 256 MiB over, beside memcpy and pickle, half a minute; writes bench-handover.json (ARGS=)
	@$(PY) -c 'import numpy' 2>/dev/null || $(PY) -m pip install -q -e '.[bench]' || echo "numpy cannot be had here"
	@$(PY) benchmarks/handover.py --write bench-handover.json $(ARGS)

bench-delta: ready ## what upgrades of real wheels cost a thin link, beside content-defined chunks, half a minute; writes bench-delta.jsonl (ARGS=)
	@$(PY) -c 'import numpy' 2>/dev/null || $(PY) -m pip install -q -e '.[bench]' || echo "numpy cannot be had here"
	@$(PY) benchmarks/delta.py --write bench-delta.jsonl $(ARGS)

bench-agent: ready ## how soon a service serves after `apply` and after a boot without a link, and what an idle agent costs, two minutes; writes bench-agent.jsonl (ARGS=)
	@$(PY) benchmarks/agent.py --write bench-agent.jsonl $(ARGS)

bench: bench-ring ## the same, and what the parts cost; writes bench-micro.json too
	@$(PY) -m pytest -q benchmarks --benchmark-json=bench-micro.json --benchmark-columns=median,iqr,rounds
	@$(PY) benchmarks/summary.py bench-ring.jsonl bench-micro.json

native: ## build the ring for C and C++ programs: build/native/libhalftrack_ring.a
	@$(MAKE) -s -f dataplane/halftrack_dataplane/native/Makefile BUILD=build/native

dist: ready ## build the wheel and the source distribution into dist/
	@rm -rf dist
	@$(PY) -m build --outdir dist .

bundle: dist ## build the agent as an artifact that agents update themselves to, and its manifest, into dist/ (ARGS=--python PATH)
	@$(PY) tools/bundle.py dist/*.whl $(ARGS)

clean: ## remove everything that was built, the virtual environment too
	@rm -rf .venv build dist halftrack.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks demo-logs
	@find model proto controller agent dataplane tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +
	@rm -f dataplane/halftrack_dataplane/*.c dataplane/halftrack_dataplane/*.so proto/halftrack_proto/*.c proto/halftrack_proto/*.so *.json *.jsonl
