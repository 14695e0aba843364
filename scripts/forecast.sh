#!/bin/sh
# forecast.sh begin|end: says how long make demo takes on this machine, and keeps in mind how long it took.
set -eu
began=.cache/demo-began took=.cache/demo-took

spell() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

begin() {
    mkdir -p .cache
    date +%s >"$began"
    if [ -s "$took" ]; then
        echo "make demo took $(spell "$(cat "$took")") here the last time"
        return
    fi
    processors=$(nproc)
    echo "make demo takes some $((10 + 30 / processors)) minutes the first time, with the $processors processors here: it downloads Debian and"
    echo "Python packages and builds an image; later runs are quicker. In a terminal the last line says what it waits for."
}

end() {
    seconds=$(($(date +%s) - $(cat "$began")))
    echo "$seconds" >"$took"
    printf '\nAll of it took %s. make lab-down takes it away again.\n' "$(spell "$seconds")"
}

case ${1:-} in
    begin) begin ;;
    end) end ;;
    *) echo 'usage: forecast.sh begin|end' >&2; exit 2 ;;
esac
