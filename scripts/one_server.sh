#!/bin/bash
# One server becomes a cluster by a run on itself, without a NAS and a registry; then a second node and a NAS join.
set -eu -o pipefail
inventory=$PWD/.cache/one
step="scripts/step.sh"
lab="{lab_name: one, lab_nodes: 2, lab_ipv4_prefix: '10.218', lab_ipv6_prefix: 'fd00:218', lab_inventory: $inventory}"

down() { ansible-playbook -i localhost, playbooks/lab_down.yml -e "$lab"; }
finish() {
    status=$?
    if [ "${KEEP_LAB:-}" ]; then echo "the lab of the single server stays (KEEP_LAB): $inventory"; exit "$status"; fi
    $step 'take the lab of the single server away' "${BASH_SOURCE[0]}" down || status=1
    exit "$status"
}

if [ "${1:-}" = down ]; then down; exit; fi
trap finish EXIT
$step 'clean slate' "${BASH_SOURCE[0]}" down
$step 'bare hosts' ansible-playbook -i localhost, playbooks/lab.yml -e "$lab"
$step 'one server, then two and a NAS' pytest -v -x -p no:cacheprovider --durations=10 tests/integration/one --inventory "$inventory"
