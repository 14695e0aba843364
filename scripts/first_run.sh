#!/bin/bash
# docs/getting-started.md, typed word by word: from the collection's archive in an empty directory to a verified cluster of fresh hosts.
set -eu -o pipefail
inventory=$PWD/.cache/first
step="scripts/step.sh"
lab="{lab_name: first, lab_ipv4_prefix: '10.217', lab_ipv6_prefix: 'fd00:217', lab_inventory: $inventory}"

down() { ansible-playbook -i localhost, playbooks/lab_down.yml -e "$lab"; }
finish() {
    status=$?
    $step 'take the lab of the first run away' "${BASH_SOURCE[0]}" down || status=1
    exit "$status"
}

if [ "${1:-}" = down ]; then down; exit; fi
trap finish EXIT
$step 'clean slate' "${BASH_SOURCE[0]}" down
$step 'three bare hosts and a NAS' ansible-playbook -i localhost, playbooks/lab.yml -e "$lab"
$step 'getting started, word by word' pytest -v -x -p no:cacheprovider --durations=10 tests/integration/first_run --inventory "$inventory"
