# SPDX-License-Identifier: Apache-2.0
# Every target does its own set-up; `make` alone lists them.

PY := .venv/bin/python
SECONDS_PER_TARGET ?= 30
TPM_PACKAGES := swtpm swtpm-tools tpm2-tools libtss2-tcti-swtpm0
BUILD_PACKAGES := bubblewrap diffoscope-minimal faketime
VM_PACKAGES := ovmf qemu-system-x86 libtss2-tcti-device0 cpio systemd-boot-efi binutils sbsigntool mtools openssl

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types contracts attacks interop interop-vm verdict-example verdict-linux fuzz bench docs lock proto format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv from the lock and fetch the container tools; does nothing when done
	@scripts/setup

demo: setup ## the whole story: a container image that only an attested TEE can open
	@.venv/bin/eaa demo

test: setup ## run the tests
	$(PY) -m pytest

check: lint types contracts ## lint, types and import contracts

lint: setup ## ruff: rules and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: setup ## mypy --strict
	$(PY) -m mypy

contracts: setup ## the layers: which package may import which
	.venv/bin/lint-imports --no-logo

attacks: setup ## mount every attack of the table, print how each went, write docs/attacks.md
	@$(PY) scripts/attacks.py

interop: setup ## the tests against swtpm, tpm2-tools, OVMF, skopeo and umoci; as root, installs what is missing
	@scripts/install-packages --optional $(TPM_PACKAGES) $(BUILD_PACKAGES) ovmf
	$(PY) -m pytest tests/interop tests/tee/measure -rs

interop-vm: setup ## boot real guests with a vTPM in QEMU: their PCRs are as computed before, their quotes appraised
	@scripts/install-packages $(TPM_PACKAGES) $(VM_PACKAGES)
	@timeout 300 $(PY) scripts/interop_vm.py
	@timeout 300 $(PY) scripts/interop_uki.py
	@timeout 300 $(PY) scripts/interop_grub.py

verdict-example: setup ## build, rebuild, measure and sign a guest from Debian's packages, and see one refused that is not reproducible
	@scripts/install-packages --optional $(BUILD_PACKAGES)
	@scripts/verdict-example

verdict-linux: setup ## the same with Debian's kernel, which is a download of 26 MB
	@scripts/install-packages --optional $(BUILD_PACKAGES)
	@scripts/verdict-example --linux

fuzz: setup ## coverage-guided fuzzing of every parser, SECONDS_PER_TARGET each (30)
	$(PY) scripts/fuzz.py --seconds $(SECONDS_PER_TARGET)

bench: setup ## measure verification against dcap-qvl on real quotes
	@mkdir -p .cache
	$(PY) -m pytest bench --override-ini addopts= --import-mode=importlib --quiet -p no:randomly \
		--benchmark-only --benchmark-columns=median,iqr,rounds --benchmark-json=.cache/bench.json
	@$(PY) bench/report.py .cache/bench.json

docs: setup ## write every generated page of docs/ again: checks, help texts, attack table
	$(PY) scripts/checks_in_docs.py --write
	$(PY) scripts/help_in_docs.py --write
	@$(PY) scripts/attacks.py

lock: ## resolve the dependencies again into requirements.lock (needs uv)
	uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --all-extras pyproject.toml -o requirements.lock

proto: setup ## generate the gRPC messages again from their .proto files
	@scripts/proto

format: setup ## let ruff rewrite what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean: ## remove everything that setup, the tests and the demo made
	rm -rf .venv .cache dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
