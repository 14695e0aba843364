#!/bin/bash
# What Galaxy and its documentation ask of the collection as it is published: antsibull-docs and galaxy-importer over the
# archive, in an environment of their own. ansible-lint and ansible-test, which the importer can run, run elsewhere.
set -eu -o pipefail
home=$PWD/.cache/galaxy
collections=$(python -c 'import ansible_collections; print(list(ansible_collections.__path__)[0])')
scripts/venv.sh "$home/venv" requirements/galaxy.txt "$(scripts/find_python.sh 14)"
scripts/unpack.sh "$home"
export PATH="$home/venv/bin:$PATH" ANSIBLE_HOME="$home/ansible" ANSIBLE_COLLECTIONS_PATH="$home:$(dirname "$collections")"

(cd "$home/ansible_collections/gpustead/cluster" &&
    antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=dependent --skip-rstcheck .)

printf '[galaxy-importer]\nrun_ansible_lint = False\nrun_ansible_test = False\n' >"$home/importer.cfg"
cd "$home"  # the importer leaves a file where it runs
GALAXY_IMPORTER_CONFIG=importer.cfg python -m galaxy_importer.main gpustead-cluster-*.tar.gz >importer.log 2>&1 ||
    { tail -n 20 importer.log; exit 1; }
if grep -E '^(WARNING|ERROR)' importer.log; then exit 1; fi
