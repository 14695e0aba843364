# What all programs of the container have, also where a shell begins with less: a login shell takes the system's PATH.
# Not root's, whose programs are the system's.
if [ -r /run/gpustead/environment ] && [ "$(id -u)" != 0 ]; then
    while IFS= read -r gpustead_line; do
        export "$gpustead_line"
    done < /run/gpustead/environment
fi
# What is compiled when it is first used, in a place of one's own.
gpustead_line=/var/lib/gpustead/accounts/$(id -un)
if [ -w "$gpustead_line" ]; then
    export TORCH_EXTENSIONS_DIR="${TORCH_EXTENSIONS_DIR:-$gpustead_line/torch_extensions}"
    export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-$gpustead_line/torchinductor}"
fi
unset gpustead_line
if [ -n "${GPUSTEAD_UMASK:-}" ]; then umask "$GPUSTEAD_UMASK"; fi
# For shells within this one, where somebody may have put an environment of Python in front.
export GPUSTEAD_ENVIRONMENT=1
