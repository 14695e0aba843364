#!/bin/bash
# sanity.sh CORE [TEST…]: ansible-test sanity of that ansible-core (2.19, 2.21, or here: that of the PATH), with no
# container, over the collection as users get it; all tests, or those that are named.
set -eu -o pipefail
core=$1
shift
if [ "$core" = here ]; then core=$(python -c 'from ansible.release import __version__ as v; print(v.rpartition(".")[0])'); fi
home=$PWD/.cache/sanity-$core
venv=$home/venv
case $core in
    2.19) python=$(scripts/find_python.sh 13 11) ;;
    2.21) python=$(scripts/find_python.sh 14 12) ;;
    *) echo "no lock for ansible-core $core: see requirements" >&2; exit 2 ;;
esac
scripts/venv.sh "$venv" "requirements/ansible-core-$core.txt" "$python"
scripts/unpack.sh "$home"
# A repository of its own: of one that lies in ours ansible-test would see that all of it is ignored.
git init --quiet "$home/ansible_collections/gpustead/cluster"

# ansible-test would fetch get-pip.py from a web server; with this in its place pip comes from the package index, too.
mkdir -p "$home/.ansible/test/cache"
for version in 24_2 25_2; do
    cat >"$home/.ansible/test/cache/get_pip_$version.py" <<EOF
import subprocess, sys
wanted = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
pip = ["$venv/bin/python", "-m", "pip", "--python", sys.executable, "install", "--quiet"]
subprocess.run(pip + wanted, check=True)
EOF
done

# The Pythons of managed hosts that are here, by their names: a shim of pyenv may have the name and not run.
rm -rf "$home/python"
mkdir "$home/python"
for minor in 9 10 11 12 13 14; do
    for candidate in $(command -v "python3.$minor" || true) "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python; do
        if "$candidate" -c 'import venv' 2>/dev/null; then ln -sf "$candidate" "$home/python/python3.$minor"; fi
    done
done

tests=()
for test in "$@"; do tests+=(--test "$test"); done
cd "$home/ansible_collections/gpustead/cluster"
export XDG_CONFIG_HOME="${XDG_CONFIG_HOME:-$HOME/.config}" HOME="$home" LC_ALL=C.UTF-8
if ! PATH="$venv/bin:$home/python:/usr/local/bin:/usr/bin:/bin" \
    ansible-test sanity --color no --requirements "${tests[@]}" >"$home/log" 2>&1; then
    grep -E '^(ERROR|FATAL)' "$home/log" || tail -n 20 "$home/log"
    exit 1
fi
# It ends with 0 where it found nothing to look at.
if grep 'All targets skipped' "$home/log"; then exit 1; fi
