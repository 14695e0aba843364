#!/bin/sh
# Makes .venv from the lock file that fits the Python it finds; does nothing when it is up to date.
set -eu
python=${PYTHON:-$("$(dirname "$0")/find_python.sh")}
minor=$("$python" -c 'import sys; print(sys.version_info[1])')
if [ "$minor" -ge 12 ]; then lock=requirements/python3.12.txt; else lock=requirements/python3.11.txt; fi
stamp=".venv/.made-from-$minor-$(sha256sum "$lock" | cut -c1-16)"
echo "Python: $("$python" --version | cut -d' ' -f2) ($python), $(grep -o '^ansible-core==[^ ]*' "$lock")"
[ -e "$stamp" ] && exit 0
rm -rf .venv
"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
touch "$stamp"
