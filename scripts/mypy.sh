#!/bin/sh
# Checks our Python through the collection's own name, as Ansible imports it; the tests of the lab by themselves.
set -eu
root=$(pwd)
cd .dev
collection=ansible_collections/gpustead/cluster
MYPYPATH=. mypy --config-file "$collection/pyproject.toml" --cache-dir "$root/.mypy_cache" \
    $(find -L "$collection/plugins" "$collection/tests/unit" -name '*.py' -not -path '*/unit/bench/*')
cd "$root/bench"
MYPYPATH=.:with_pyinfra mypy --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" \
    *.py ../tests/unit/bench/*.py
# pyinfra is in no environment but the benchmark's own.
cd "$root/bench/with_pyinfra"
MYPYPATH=. mypy --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" \
    --ignore-missing-imports --allow-subclassing-any *.py
cd "$root/tests/nvidia"
mypy --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" standins/*.py packages/*.py
cd "$root/tests/docker"
mypy --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" packages.py
cd "$root/tests/integration"
MYPYPATH=.:hostile:kernel:../../bench exec mypy --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" $(find . -name '*.py')
