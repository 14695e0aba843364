#!/bin/bash
# The lab of five kinds of nodes and the tests of GPUs in it. The GPUs are stand-ins: tests/nvidia.
set -eu -o pipefail
inventory=.cache/gpu-lab
step="scripts/step.sh"

down() { ansible-playbook -i localhost, playbooks/lab_down.yml -e @tests/nvidia/lab.yml; }
finish() {
    status=$?
    if [ "${KEEP_LAB:-}" ]; then echo "the lab of the GPU tests stays (KEEP_LAB): $inventory"; exit "$status"; fi
    $step 'take the lab of the GPU tests away' "${BASH_SOURCE[0]}" down || status=1
    exit "$status"
}

if [ "${1:-}" = down ]; then down; exit; fi
trap finish EXIT
$step 'clean slate' "${BASH_SOURCE[0]}" down
$step 'five bare hosts' ansible-playbook -i localhost, playbooks/lab.yml -e @tests/nvidia/lab.yml
$step 'their GPUs, and a repository of the toolkit' ansible-playbook -i "$inventory" tests/nvidia/testbed.yml
$step 'five kinds of nodes' pytest -v -p no:cacheprovider --maxfail 6 --durations=10 tests/integration/gpu --inventory "$inventory"
