#!/bin/sh
# sanity.sh HOME OPTION…: ansible-test sanity over the collection as users get it (built and unpacked again), with the
# ansible-test on the PATH and without a container. HOME keeps its environments and the tree between runs.
set -eu
home=$1
shift
tree=$home/ansible_collections/gpustead/cluster
rm -rf "$home/ansible_collections" "$home/python"
mkdir -p "$tree" "$home/python" "$home/.ansible/test/cache"
ansible-galaxy collection build --force --output-path "$home" . >/dev/null
tar -xzf "$home"/gpustead-cluster-*.tar.gz -C "$tree"

# ansible-test would fetch get-pip.py from a web server; with this in its place pip comes from the package index, too.
for version in 24_2 25_2; do
    cat >"$home/.ansible/test/cache/get_pip_$version.py" <<EOF
import subprocess, sys
wanted = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
pip = ["$(command -v python)", "-m", "pip", "--python", sys.executable, "install", "--quiet"]
subprocess.run(pip + wanted, check=True)
EOF
done

# The Pythons of managed hosts that are here, by their names: a shim of pyenv may have the name and not run.
for minor in 9 10 11 12 13 14; do
    for candidate in $(command -v "python3.$minor" || true) "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python; do
        if "$candidate" -c 'import venv' 2>/dev/null; then ln -sf "$candidate" "$home/python/python3.$minor"; fi
    done
done

cd "$tree"
export XDG_CONFIG_HOME="${XDG_CONFIG_HOME:-$HOME/.config}" HOME="$home"
PATH=$(dirname "$(command -v ansible-test)"):$home/python:/usr/local/bin:/usr/bin:/bin exec ansible-test sanity --color no --requirements "$@"
