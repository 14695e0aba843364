#!/bin/sh
# find_python.sh [NEWEST [OLDEST]]: prints the newest Python of this machine, with venv, from 3.OLDEST (11) to 3.NEWEST:
# those on the PATH and pyenv's.
set -eu
newest=${1:-99} oldest=${2:-11}
best='' best_minor=0
for candidate in $(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python 2>/dev/null) \
                 $(for minor in 11 12 13 14 15 16; do command -v "python3.$minor" || true; done) \
                 $(command -v python3 || true); do
    minor=$("$candidate" -c 'import ensurepip, sys, venv; print(sys.version_info[1])' 2>/dev/null) || continue
    if [ "$minor" -ge "$oldest" ] && [ "$minor" -le "$newest" ] && [ "$minor" -gt "$best_minor" ]; then
        best=$candidate best_minor=$minor
    fi
done
if [ -z "$best" ]; then
    echo "no Python from 3.$oldest to 3.$newest with venv found; install one, for example: apt-get install python3-venv" >&2
    exit 1
fi
echo "$best"
