SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo forecast test test-full test-gpu test-kernel test-first test-one lint sanity unit integration lab lab-down bench docs venv engine root lock clean

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1

LAB_NODES ?= 3
INVENTORY := inventory/lab
STEP := scripts/step.sh
# Those that find something on the way, and take no minute: the others are in make sanity.
QUICK_SANITY := action-plugin-docs ansible-doc empty-init no-assert shebang symlinks validate-modules

help: ## Print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: root forecast venv lab ## Turn empty hosts of a lab into a cluster, verify it and train on it
	@$(STEP) 'Turn the hosts into a cluster (site.yml)' ansible-playbook -i $(INVENTORY) site.yml
	@$(STEP) 'Verify the cluster' ansible-playbook -i $(INVENTORY) playbooks/verify.yml
	@$(STEP) 'Train a model over the nodes' ansible-playbook -i $(INVENTORY) playbooks/train.yml
	@mkdir -p .cache
	@ansible-playbook -i $(INVENTORY) playbooks/summary.yml >.cache/summary.log || { cat .cache/summary.log; exit 1; }
	@cat reports/summary.txt
	@scripts/forecast.sh end

forecast:
	@scripts/forecast.sh begin

# The runs of the tests end with their slowest tasks.
integration test-gpu test-kernel: export ANSIBLE_CALLBACKS_ENABLED := ansible.posix.profile_tasks
integration test-gpu test-kernel: export PROFILE_TASKS_SUMMARY_ONLY := true
integration test-gpu test-kernel: export PROFILE_TASKS_TASK_OUTPUT_LIMIT := 8

test: root lint unit integration ## Run every check, the lab's included

test-full: export FULL := 1
test-full: test sanity test-gpu test-first test-one ## The same, and every attack by accounts, every output tampered with, runs killed, nodes that join and come back, GPUs

test-gpu: venv root engine ## Five kinds of nodes, with and without GPUs (stand-ins), in a lab of their own
	@$(STEP) 'Nodes with GPUs' scripts/gpu_lab.sh

test-kernel: venv root engine ## Hosts with kernels of their own: an NFS server, boots without Ansible, the firewall through all of it
	@$(STEP) 'Hosts with kernels of their own' scripts/integration.sh kernel

test-first: venv root engine ## docs/getting-started.md word by word, from the archive on fresh hosts of a lab
	@$(STEP) 'The first hour' scripts/first_run.sh

test-one: venv root engine ## One server without a NAS, by a run on itself; then a second node and a NAS join it
	@$(STEP) 'One server' scripts/one_server.sh

docs: venv ## Write group_vars/all and the argument specs anew from the roles' defaults, and build the site
	@python scripts/document_settings.py
	@scripts/site.sh

lint: venv ## Ansible, YAML and Python linters, types, and what Galaxy asks of a collection
	@$(STEP) 'ansible-lint (production)' ansible-lint --nocolor
	@$(STEP) 'yamllint' yamllint --strict .
	@$(STEP) 'ruff' ruff check --no-cache .
	@$(STEP) 'ruff format' ruff format --no-cache --check .
	@$(STEP) 'mypy (strict)' scripts/mypy.sh
	@$(STEP) 'the site of the documentation (strict)' scripts/site.sh
	@$(STEP) 'antsibull-docs and galaxy-importer' scripts/galaxy.sh
	@$(STEP) 'ansible-test sanity, of modules and layout' scripts/sanity.sh here $(QUICK_SANITY)

sanity: venv ## All of ansible-test sanity, with ansible-core 2.19 and 2.21
	@$(STEP) 'ansible-test sanity of ansible-core 2.19' scripts/sanity.sh 2.19
	@$(STEP) 'ansible-test sanity of ansible-core 2.21' scripts/sanity.sh 2.21

unit: venv ## Unit tests
	@$(STEP) 'Unit tests' pytest -q --cov --cov-report=term tests/unit

integration: venv root engine ## The lab: create, check, converge, idempotence, verify, tests from outside, destroy
	@$(STEP) 'The lab from bare hosts to a verified cluster' scripts/integration.sh

lab: venv root engine ## Start the lab (LAB_NODES=3) and write inventory/lab
	@$(STEP) 'Start the lab' ansible-playbook -i localhost, playbooks/lab.yml -e lab_nodes=$(LAB_NODES)

lab-down: venv root ## Take away all that make lab or make demo made, and nothing else
	@if docker info >/dev/null 2>&1; then \
	  $(STEP) 'Take the lab away' ansible-playbook -i localhost, playbooks/lab_down.yml; \
	else echo 'no Docker engine answers: no lab stands'; fi
	@scripts/engine.sh stop
	@rm -f reports/summary.txt reports/summary.html

bench: root venv engine ## Time runs with nothing or one thing to do beside pyinfra and the floor (BENCH='--only add_user')
	@python bench/run.py $(BENCH)

venv:
	@scripts/venv.sh

engine:
	@scripts/engine.sh start

root:
	@if [ "$$(id -u)" -ne 0 ]; then echo 'the lab needs root on this machine (networks, debootstrap): run this make as root' >&2; exit 1; fi

lock: venv ## Write the lock files anew (needs uv)
	@cd requirements && for python in 3.11 3.12; do \
	  uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header --python-version $$python \
	    requirements.in -o python$$python.txt; done
	@cd requirements && uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 galaxy.in -o galaxy.txt
	@cd requirements && uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 docs.in -o docs.txt
	@cd requirements && for core in 2.19:3.11 2.21:3.12; do \
	  echo "ansible-core==$${core%:*}.*" | uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate \
	    --no-header --python-version $${core#*:} - -o ansible-core-$${core%:*}.txt; done

clean: ## Remove the virtual environment and caches
	@rm -rf .venv .cache .ansible .mypy_cache .pytest_cache .ruff_cache reports
