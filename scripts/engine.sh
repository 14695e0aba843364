#!/bin/sh
# engine.sh start|stop: has a Docker engine run on this machine; stops only one that it started itself.
set -eu
state=.cache/engine
usage='usage: engine.sh start|stop'

answers() { docker info >/dev/null 2>&1; }

start() {
    if answers; then return; fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "no Docker engine answers and you are not root: start Docker and join the group docker, or run make as root" >&2
        exit 1
    fi
    mkdir -p .cache
    if ! command -v dockerd >/dev/null; then
        if ! command -v apt-get >/dev/null; then
            echo "no Docker engine here and no apt-get to install one: install Docker, then run make again" >&2
            exit 1
        fi
        echo "installing Docker from the distribution"
        apt-get update -qq
        if ! DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends docker.io iptables \
            >.cache/docker-install.log 2>&1; then
            tail -n 5 .cache/docker-install.log >&2
            exit 1
        fi
    fi
    if [ -d /run/systemd/system ]; then
        systemctl start docker
        echo systemd >"$state"
    else
        # A pid file of a machine that was stopped hard would keep the engine from starting.
        rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid
        setsid dockerd >.cache/dockerd.log 2>&1 </dev/null &
        echo "$!" >"$state"
    fi
    tries=0
    until answers; do
        tries=$((tries + 1))
        if [ "$tries" -gt 60 ]; then
            echo "the Docker engine did not answer within 60 s; its last words:" >&2
            tail -n 5 .cache/dockerd.log >&2 || true
            exit 1
        fi
        sleep 1
    done
    echo "started a Docker engine; make lab-down stops it"
}

stop() {
    [ -e "$state" ] || return 0
    if [ -n "$(docker ps -q 2>/dev/null)" ]; then
        echo "other containers run on the Docker engine that make had started: it stays"
        return 0
    fi
    engine=$(cat "$state")
    if [ "$engine" = systemd ]; then
        systemctl stop docker.socket docker
    # After a restart of the machine the number may be somebody else's.
    elif [ "$(cat "/proc/$engine/comm" 2>/dev/null)" = dockerd ]; then
        kill "$engine"
    fi
    rm -f "$state"
    echo "stopped the Docker engine that make had started; its package stays"
}

case ${1:-} in
    start) start ;;
    stop) stop ;;
    *) echo "$usage" >&2; exit 2 ;;
esac
