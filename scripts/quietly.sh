#!/bin/sh
# quietly.sh LOG COMMAND …: what the command says goes into the log; its end is shown where it fails.
log=$1
shift
"$@" >"$log" 2>&1
status=$?
if [ "$status" -ne 0 ]; then tail -n 60 "$log"; fi
exit "$status"
