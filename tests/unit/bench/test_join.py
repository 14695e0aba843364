"""The script that makes a host by hand, from the state of one."""

from __future__ import annotations

import base64
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import join

OWNED = {"mode": "0640", "owner": "1500:1500", "user": "ada", "group": "ada"}

ADA = {"uid": "1500", "gid": "1500", "home": "/home/ada", "shell": "/bin/bash", "groups": ["ml"]}


def entry(kind: str, name: str, value: Any, **subject: Any) -> dict[str, Any]:
    return {"kind": kind, "subject": {"name": name, **subject}, "value": value}


ENTRIES = [
    entry("package", "docker.io", {"installed": True}),
    entry("file", "/etc/own file", {**OWNED, "type": "file"}),
    entry("file", "/etc/link", {**OWNED, "type": "link", "target": "own file"}),
    entry("file", "/mnt/nas/users/ada", {**OWNED, "type": "directory"}, **{"as": 1500}),
    entry("file", "/etc/gone", None),
    entry("group", "ml", {"gid": "990"}),
    entry("user", "nas", {**ADA, "uid": "941", "gid": "941", "groups": []}, service=True),
    entry("user", "ada", ADA, groups=["ml", "other"]),
    entry("member", "ada:ml", {"member": True}),
    entry(
        "mount",
        "/mnt/nas",
        {"fstab": ["nas:/v", "/mnt/nas", "glusterfs"], "fstab_lines": ["", "nas:/v /mnt/nas glusterfs _netdev 0 0"]},
    ),
    entry("unit", "docker.service", {"UnitFileState": "enabled", "ActiveState": "active"}),
    entry("ufw_rules", "", {"user.rules": ["### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in"], "live": {}}),
    entry("ufw", "", {"own": {}}),
    entry("image", "registry:5000/cluster/ssh:1", {"id": "sha256:1"}),
    entry("container", "workspace/jupyter", {"compose_file": "/opt/w/compose.yml"}),
    entry("container", "workspace/ssh", {"compose_file": "/opt/w/compose.yml"}),
]


def test_the_script_is_one_that_sh_reads_and_that_makes_each_thing_once(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/own file").write_bytes(b"content")
    script = join.by_hand(ENTRIES, tmp_path)
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    first, _, others = script.partition("base64 -d <<'END' | tar -xzp --numeric-owner -C /\n")
    packed, _, rest = others.partition("\nEND\n")
    assert first.splitlines() == [
        "set -eu",
        "groupadd --gid 990 ml",
        "getent group 941 >/dev/null || groupadd --gid 941 nas",
        "useradd --uid 941 --gid 941 --home-dir /home/ada --shell /bin/bash nas",
        "getent group 1500 >/dev/null || groupadd --gid 1500 ada",
        "getent group ml >/dev/null || groupadd --system ml",
        "useradd --uid 1500 --gid 1500 --home-dir /home/ada --shell /bin/bash --groups ml --create-home ada",
        "install -d -m 700 -o ada -g 1500 /home/ada/.ssh",
    ]
    assert rest.splitlines() == [
        *f"{join.INSTALL} docker.io".splitlines(),
        "usermod --append --groups ml ada",
        "mkdir -p /mnt/nas",
        "chattr +i /mnt/nas",
        "echo 'nas:/v /mnt/nas glusterfs _netdev 0 0' >>/etc/fstab",
        "mount /mnt/nas",
        "update-ca-certificates >/dev/null",
        "systemctl daemon-reload",
        "systemctl enable --quiet docker.service",
        "ufw allow in proto tcp from 0.0.0.0/0 to 0.0.0.0/0 port 22",
        "ufw --force enable",
        "systemctl restart docker.service",
        "docker pull --quiet registry:5000/cluster/ssh:1",
        "docker compose --file /opt/w/compose.yml --project-name workspace up --detach --wait jupyter ssh",
    ]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as tar:
        assert [(info.name, info.uid, info.mode, info.linkname) for info in tar] == [
            ("etc/own file", 1500, 0o640, ""),
            ("etc/link", 1500, 0o640, "own file"),
        ]
        content = tar.extractfile("etc/own file")
        assert content is not None
        assert content.read() == b"content"
