#!/bin/sh
# unpack.sh FOLDER: the collection as users get it, built into the folder and unpacked below it.
set -eu
rm -rf "$1/ansible_collections" "$1"/gpustead-cluster-*.tar.gz
mkdir -p "$1/ansible_collections/gpustead/cluster"
ansible-galaxy collection build --output-path "$1" . >/dev/null
tar -xzf "$1"/gpustead-cluster-*.tar.gz -C "$1/ansible_collections/gpustead/cluster"
