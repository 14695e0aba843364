"""What the lab needs for the commands of docs/from-scripts.md, and what they have done there; by the column `Today`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# On one node, where the others would do the same.
ONE = ("--limit", "gpu01")
HANGS = "mesh-run --launcher none --nodes 2 sleep 987"
WAIT = "for i in $(seq 40); do mesh-run ps | grep -q 987 && exit; sleep 1; done; exit 1"
BEGIN = f"(nohup {HANGS} >/dev/null 2>&1 </dev/null &) && {WAIT}"
END = "mesh-run stop all"


@dataclass(frozen=True)
class Case:
    """A row of the page in the lab.

    Attributes:
        shows: a regular expression for what the command prints.
        before: what is so before: (place, commands).
        after: what shows that it did what the row says: (place, commands that end with 0).
        end: what takes back what it left: (place, commands).
        added: what lists of the inventory have besides.
        words: that make the command shorter.
        small: two layers of a test's own (image_trial) in place of the whole stack, whose build takes half an hour.
    """

    shows: str = ""
    before: Sequence[tuple[str, str]] = ()
    after: Sequence[tuple[str, str]] = ()
    end: Sequence[tuple[str, str]] = ()
    added: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    words: Sequence[str] = ()
    small: bool = False


ROOT, OTHER = "node as root", "node gpu02 as root"
BASE = "nvidia/cuda:12.8.1-devel-ubuntu24.04"
RUNNING = "docker ps --quiet --filter label=com.docker.compose.project=gpustead-workspace"
AS_LAYOUT = "setpriv --reuid 941 --regid 941 --clear-groups"
IMAGE = "docker run --rm --entrypoint cat $(cat /etc/gpustead/image)"
CASES = {
    # In the workspace
    "setup_multinode.sh": Case("gpu01: gpu01.*gpu02: gpu02|gpu02: gpu02.*gpu01: gpu01"),
    "train_online_multinode.sh": Case("OK world_size=2 ", after=[("workspace", "ls mesh-runs/*/rank-0.log")]),
    "deepspeed --hostfile hostfile --ssh_port 2222 --master_addr … train.py": Case("OK world_size=6 "),
    "torchrun --nnodes 2 --node_rank … --master_addr … train.py": Case("OK world_size=2 "),
    "accelerate launch --num_machines 2 --machine_rank … train.py": Case("OK world_size=2 "),
    "export OMP_NUM_THREADS=4": Case("gpu02: 4"),
    "make shell-multinode": Case("gpu02: .*/dev/shm"),
    "ps aux": Case("2 ranks on gpu01.*sleep 987", before=[("workspace", BEGIN)], end=[("workspace", END)]),
    "pkill -f train.py": Case(
        "stopped on gpu0",
        before=[("workspace", BEGIN)],
        after=[("workspace", "! mesh-run ps | grep 987"), (ROOT, "! pgrep -f '^sleep 987'")],
    ),
    # On the own machine
    "make shell": Case(),
    "docker run --rm … IMAGE python x.py": Case(r"Python 3\."),
    "docker exec -it … jupyter notebook --allow-root --ip=0.0.0.0 --port=32778": Case(r"\S{16}"),
    # On the controller
    "cp .env.sample .env": Case("failed=0"),
    "make up-multinode": Case("failed=0"),
    "docker ps": Case("failed=0"),
    "http://10.1.0.5:18888": Case("JupyterLab +http://"),
    "scp -r .devcontainer gpu03:": Case(
        "failed=0", after=[("workspace", "mesh-run --launcher none --nodes gpu03 true")]
    ),
    "useradd -u 1003": Case(
        "failed=0",
        added={"cluster_users": [{"name": "hedy", "uid": 1509}]},
        words=ONE,
        after=[(ROOT, "test $(id -u hedy) = 1509 && test $(stat -c %u /mnt/nas/users/hedy) = 1509")],
    ),
    'docker run --user 1000 --gpus device=1 --cpuset-cpus="14-27" --memory=64g …': Case(
        "failed=0",
        words=ONE,
        after=[
            (
                ROOT,
                "docker inspect -f '{{.HostConfig.CpusetCpus}} {{.HostConfig.Memory}}' gpustead-workspace-grace-ssh-1"
                f" | grep -qx '0-1 {2 << 30}'"
                " && docker compose -p gpustead-workspace-grace exec -T --user grace ssh sh -c 'test $(id -u) = 1501'",
            )
        ],
    ),
    "-v /mnt/Data/data:/home/data": Case(
        "failed=0",
        words=ONE,
        before=[(ROOT, "mkdir -p /srv/data && echo set > /srv/data/set")],
        after=[("workspace", "grep -qx set /data/set && ! touch /data/mine")],
    ),
    "chown -R root:docker /mnt/share && chmod -R 775 /mnt/share": Case(
        "failed=0",
        after=[
            (ROOT, "runuser -u ada -- sh -c 'umask 002 && echo hers > /mnt/nas/shared/of-ada'"),
            (ROOT, "runuser -u grace -- sh -c 'echo his >> /mnt/nas/shared/of-ada && rm /mnt/nas/shared/of-ada'"),
        ],
    ),
    "make build py=3.12 torch=2.13.0 cu=126": Case("nodes run .*gpustead"),
    "build.sh -b nvidia/cuda:12.8.1-devel-ubuntu24.04 -r ~/projects -i ours": Case(
        r"\bours +\d+ MB",
        before=[(ROOT, f"docker load --quiet --input /var/lib/gpustead/images/base.tar && docker tag LAB_BASE {BASE}")],
        after=[(ROOT, f"{IMAGE} /opt/projects/ours/words"), (OTHER, f"{IMAGE} /opt/projects/ours/words")],
        end=[(ROOT, f"docker rmi {BASE}")],
        small=True,
    ),
    "enroot import -o ours.sqsh dockerd://ours:latest": Case(
        "failed=0",
        after=[(OTHER, "test -s /mnt/nas/images/scripts.sqsh")],
        end=[(ROOT, f"{AS_LAYOUT} sh -c 'rm -f /mnt/nas/images/scripts*.sqsh'")],
        small=True,
    ),
    "docker commit CONTAINER ada/debug:1": Case(
        "failed=0", after=[(ROOT, "docker image inspect ada/debug:1")], end=[(ROOT, "docker rmi ada/debug:1")]
    ),
    # On a node
    "./run.sh --stop": Case(after=[(ROOT, f'test -z "$({RUNNING})"')]),
    "./run.sh --start": Case(after=[("workspace", "true")]),
    "docker exec -u root CONTAINER id": Case(r"(?m)^0\r?$"),
    "docker build -t mine .": Case(
        before=[(ROOT, "mkdir -p /srv/mine && printf 'FROM parent\\nRUN echo mine > /mine\\n' > /srv/mine/Dockerfile")],
        after=[("workspace", "grep -qx mine /mine")],
        end=[(ROOT, "sudo make -C /etc/gpustead/workspace up && docker rmi gpustead-local/ada && rm -r /srv/mine")],
    ),
}
