#!/bin/sh
# venv.sh [FOLDER LOCK PYTHON]: makes a virtual environment from a lock file; does nothing when it is up to date. Without
# arguments .venv, from the lock that fits the newest Python here.
set -eu
if [ $# -eq 0 ]; then
    python=${PYTHON:-$("$(dirname "$0")/find_python.sh")}
    if [ "$("$python" -c 'import sys; print(sys.version_info[1])')" -ge 12 ]; then lock=3.12; else lock=3.11; fi
    set -- .venv "requirements/python$lock.txt" "$python"
    echo "Python: $("$python" --version | cut -d' ' -f2) ($python), $(grep -o '^ansible-core==[^ ]*' "$2")"
fi
folder=$1 lock=$2 python=$3
minor=$("$python" -c 'import sys; print(sys.version_info[1])')
stamp="$folder/.made-from-$minor-$(sha256sum "$lock" | cut -c1-16)"
[ -e "$stamp" ] && exit 0
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r "$lock"
touch "$stamp"
