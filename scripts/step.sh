#!/bin/sh
# step.sh TITLE COMMAND …: runs the command and says when it began, how long it took and whether it held.
title=$1
shift
began=$(date +%s)
printf '\n==> [%s] %s\n' "$(date +%H:%M:%S)" "$title"
"$@"
status=$?
took=$(( $(date +%s) - began ))
if [ "$status" -eq 0 ]; then verdict=done; else verdict="FAILED (exit $status)"; fi
printf '==> [%s] %s: %s after %d min %02d s\n' "$(date +%H:%M:%S)" "$title" "$verdict" $((took / 60)) $((took % 60))
exit "$status"
