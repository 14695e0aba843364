#!/bin/bash
# integration.sh [SCENARIO]: a scenario of molecule's, with the tests from outside before the lab is taken away again.
# Of the scenario kernel PARTS="test_nfs test_boots" runs these alone, in its lab as it stands where one does (KEEP_LAB).
set -eu -o pipefail
scenario=${1:-default}
inventory=molecule/$scenario/inventory
log=.cache/molecule.log
begun=1  # the line of the log at which the latest step began

step() {
    begun=$(($(wc -l <"$log") + 1))
    scripts/step.sh "$@"
}

scenario() {
    step "$1" scripts/quietly.sh .cache/molecule.out molecule "$2" --scenario-name "$scenario"
}

finish() {
    status=$?
    if [ "${KEEP_LAB:-}" ]; then
        echo "the lab of the tests stays (KEEP_LAB): molecule destroy -s $scenario takes it away"
    else
        echo "==> taking the lab away"
        # Only what went wrong: what failed before is to be the last that one reads.
        scripts/quietly.sh .cache/destroy.log molecule destroy --scenario-name "$scenario" || status=1
    fi
    if [ "$status" -ne 0 ]; then
        # From under the statistics of Ansible and of molecule; a failed pytest says it last by itself.
        tail -n "+$begun" "$log" | grep -E '(ERROR\||fatal:|failed:) |^Origin:' | tail -n 8 | cut -c 1-1000 || true
    fi
    exit "$status"
}
trap finish EXIT

mkdir -p .cache
: >"$log"
echo "follow the playbooks with tail -f $log"
if [ -z "${PARTS:-}" ] || [ ! -e "$inventory/hosts.yml" ]; then
    # Whatever an earlier, interrupted run left.
    scenario 'clean slate' destroy
    scenario 'create' create
    if [ "$scenario" = default ]; then scenario 'check: --check --diff on fresh hosts' check; fi
    scenario 'converge' converge
    scenario 'idempotence: the second run changes nothing' idempotence
    scenario 'verify' verify
fi
if [ "$scenario" = kernel ]; then
    # What boots hosts and puts other services on them comes last.
    all='test_nfs test_nas_kinds test_hostile_share test_reach test_workspace_limits test_boots test_directory test_limits'
    parts=${PARTS:-$all}
    # shellcheck disable=SC2086  # words
    step 'the share, the boot and the firewall of real kernels' pytest -v -p no:cacheprovider --durations=10 \
        $(printf 'tests/integration/kernel/%s.py ' $parts) --inventory "$inventory"
    exit
fi
step 'tests from outside' pytest -v --durations=10 tests/integration --ignore tests/integration/lifecycle \
    --ignore tests/integration/receipts --ignore tests/integration/gpu --ignore tests/integration/images \
    --ignore tests/integration/workspaces --ignore tests/integration/hostile --ignore tests/integration/first_run \
    --ignore tests/integration/kernel --ignore tests/integration/one --ignore tests/integration/mesh_runs \
    --ignore tests/integration/day_two --inventory "$inventory"
# Without FULL those that run no playbook; the others make well over a hundred runs.
attacks=(tests/integration/hostile/test_container_output.py tests/integration/hostile/test_ssh_audit.py)
if [ "${FULL:-}" ]; then attacks=(tests/integration/hostile); fi
step 'attacks by accounts' pytest -v -p no:cacheprovider --durations=10 "${attacks[@]}" --inventory "$inventory"
if [ "${FULL:-}" ]; then
    step 'no receipt lies' pytest -v -p no:cacheprovider --durations=10 tests/integration/receipts --inventory "$inventory"
    step 'images' pytest -v -p no:cacheprovider tests/integration/images --inventory "$inventory"
    step 'several workspaces on a node' pytest -v -p no:cacheprovider tests/integration/workspaces --inventory "$inventory"
    step 'runs over nodes' pytest -v -p no:cacheprovider tests/integration/mesh_runs --inventory "$inventory"
    step 'day two' pytest -v -p no:cacheprovider --durations=10 tests/integration/day_two --inventory "$inventory"
    step 'a node joins, nodes come back' pytest -v -p no:cacheprovider tests/integration/lifecycle --inventory "$inventory"
fi
