#!/bin/bash
# The molecule scenario, with the tests from outside before the lab is taken away again.
set -eu -o pipefail
inventory=molecule/default/inventory
step="scripts/step.sh"

finish() {
    status=$?
    if [ "${KEEP_LAB:-}" ]; then echo "the lab of the tests stays (KEEP_LAB): molecule destroy takes it away"; exit "$status"; fi
    $step 'destroy' molecule destroy || status=1
    exit "$status"
}
trap finish EXIT

mkdir -p .cache
rm -f .cache/molecule.log
# Whatever an earlier, interrupted run left.
$step 'clean slate' molecule destroy
$step 'create' molecule create
$step 'check: --check --diff on fresh hosts' molecule check
$step 'converge' molecule converge
$step 'idempotence: the second run changes nothing' molecule idempotence
$step 'verify' molecule verify
$step 'tests from outside' pytest -v --durations=10 tests/integration --ignore tests/integration/lifecycle \
    --ignore tests/integration/receipts --ignore tests/integration/gpu --ignore tests/integration/images \
    --ignore tests/integration/workspaces \
    --inventory "$inventory"
if [ "${FULL:-}" ]; then
    $step 'no receipt lies' pytest -v -p no:cacheprovider --durations=10 tests/integration/receipts --inventory "$inventory"
    $step 'images' pytest -v -p no:cacheprovider tests/integration/images --inventory "$inventory"
    $step 'several workspaces on a node' pytest -v -p no:cacheprovider tests/integration/workspaces --inventory "$inventory"
    $step 'a node joins, nodes come back' pytest -v -p no:cacheprovider tests/integration/lifecycle --inventory "$inventory"
fi
