"""No receipt lies: each output of each receipt in the lab is tampered with, named, healed, and looks as before.

What there is to tamper with comes from the receipts on the hosts. An output without a case fails the test.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Lab
from support import READ, Output, assert_fresh, converge, drift, outputs, roles_run, run_after, seen, site

# Rounds: what can be done to a host at once, so that each finding has one cause.
FILES, RUNNING, PACKAGES, CORE = range(4)
ROUNDS = {FILES: "files", RUNNING: "running", PACKAGES: "packages", CORE: "packages that others stand on"}

DOCKER_SILENT = (r"docker/(unit|docker) ", r"images/image ", r"(workspace|ssh_mesh)/container ")
NETWORK = (r"firewall/",)


@dataclass(frozen=True)
class Case:
    """What is done to the outputs whose "<host> <role>/<id>" matches; {} is the name (quoted).

    Of several commands each host gets one, in turn.
    `also`: patterns of "<role>/<id>" of what goes along with it on that host.
    """

    pattern: str
    round: int
    command: str | tuple[str, ...]
    also: tuple[str, ...] = ()


CONTAINER = (
    "c=$(docker ps -aq --filter label=com.docker.compose.project={project}"
    " --filter label=com.docker.compose.service={service}) && "
)
# The same name, image and labels, and not what Compose started.
REPLACE = (
    CONTAINER + "name=$(docker inspect -f '{{{{.Name}}}}' $c) && image=$(docker inspect -f '{{{{.Image}}}}' $c)"
    " && docker inspect -f '{{{{range $k, $v := .Config.Labels}}}}{{{{$k}}}}={{{{$v}}}}\n{{{{end}}}}' $c > /tmp/labels"
    " && docker rm -f $c && sed -i /^$/d /tmp/labels"
    " && docker run -d --name ${{name#/}} --label-file /tmp/labels --entrypoint sleep $image infinity"
)
EXPIRED_SSH = (
    "rm -f /tmp/ca /tmp/ca.pub && ssh-keygen -q -t ed25519 -N '' -f /tmp/ca && key=$(echo {} | sed s/-cert.pub$/.pub/)"
    " && ssh-keygen -q -s /tmp/ca -h -I expired -V -3d:-1d $key"
)
EXPIRED_X509 = """python3 - {} <<'END'
import datetime, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
old = x509.load_pem_x509_certificate(open(sys.argv[1], "rb").read())
now = datetime.datetime.now(datetime.timezone.utc)
new = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), old.serial_number,
    now - datetime.timedelta(3), now - datetime.timedelta(1), list(old.extensions))
new = new.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
open(sys.argv[1], "wb").write(new.public_bytes(serialization.Encoding.PEM))
END"""
# The daemon reads a file that is not the one that lies there afterwards.
OTHER_DAEMON = (
    'cp -p /etc/docker/daemon.json /root/daemon.json && sed -i \'s/"live-restore": true/"live-restore": false/\''
    " /etc/docker/daemon.json && systemctl kill -s HUP --kill-whom=main docker && sleep 2"
    " && cp -p /root/daemon.json /etc/docker/daemon.json && rm /root/daemon.json"
)
# What needs a package goes with it. Purged is that one alone: the settings of the others hold data.
REMOVE = "apt-get -qq -y --allow-remove-essential remove {}"
PURGE = f"{REMOVE} && dpkg --purge {{}}"
APPEND = "echo '# tampered' >> {}"

# The first that matches counts.
CASES: Sequence[Case] = (
    # base
    Case(
        r"base/block /etc/environment$", FILES, r"printf '# BEGIN gpustead: proxies\n# END gpustead: proxies\n' >> {}"
    ),
    Case(r"base/file /etc/apt/apt.conf.d/90gpustead-proxy$", FILES, APPEND),
    Case(r"base/file /etc/apt/auth.conf.d/90gpustead-proxy.conf$", FILES, APPEND),
    Case(r"base/file /etc/profile.d/gpustead-umask.sh$", FILES, APPEND),
    Case(r"base/tree /usr/local/share/ca-certificates$", FILES, "echo >> $(ls {}/gpustead-*.crt | head -n 1)"),
    Case(r"base/file /etc/ssl/certs/ca-certificates.crt$", RUNNING, "chmod 0600 {}"),
    Case(r"base/contains ", FILES, "sed -i d {}"),
    # nas
    # Not with the files, some of which lie on it. Of this mount alone: the containers write to the file system.
    Case(
        r"nas/mount ",
        RUNNING,
        (
            "mount -i -o remount,bind,ro {}",
            "sed -i '\\,[[:space:]]{}[[:space:]],s/noatime/atime/' /etc/fstab",
        ),
    ),
    Case(r"nas/mountpoint ", FILES, "unshare -m sh -c 'umount {0}; chattr -i {0}; chmod 0755 {0}'"),
    Case(r"nas/gluster ", RUNNING, "gluster --mode=script volume set {} server.root-squash off"),
    Case(r"nas/unit ", RUNNING, "systemctl -q disable {}"),
    Case(r"nas/export ", RUNNING, "exportfs -ua"),
    # accounts
    Case(r"accounts/user ada$", FILES, "gpasswd -d {} ml"),  # her processes run: her number cannot change
    Case(r"accounts/user gpustead$", FILES, "usermod -s /bin/bash {}"),  # a system account is not renumbered
    Case(r"accounts/user ", FILES, "usermod -u 1777 {}"),
    Case(r"accounts/lines ", FILES, "sed -i 1d {}"),
    # binds
    Case(r"binds/unit ", FILES, "systemctl -q disable {}"),
    Case(r"binds/file \S+(\.py|\.service|/gpustead-binds)$", FILES, APPEND),
    Case(r"binds/file /usr/local/lib/gpustead\S*$", FILES, "chmod 0777 {}"),
    # docker
    Case(r"docker/file /etc/docker/daemon.json$", FILES, "chmod 0644 {}"),
    Case(r"docker/json_keys ", FILES, "sed -i s/50m/60m/ {}"),
    Case(r"docker/unit ", FILES, "systemctl -q disable {}"),
    Case(r"docker/docker daemon$", RUNNING, OTHER_DAEMON),
    Case(r"docker/member ", FILES, "gpasswd -d $(echo {} | tr : ' ')"),
    # firewall
    Case(r"firewall/unit ", FILES, "systemctl -q disable {}"),
    Case(
        r"firewall/ufw status$",
        RUNNING,
        (
            "ufw disable",
            "iptables -I ufw-before-input 1 -p tcp --dport 9999 -j ACCEPT",
            "iptables -P OUTPUT DROP",
            "ip6tables -D INPUT -j ufw6-before-input",
        ),
        NETWORK,
    ),
    Case(
        r"firewall/ufw_rules ",
        FILES,
        # The last rule: the first ones are the way in and the nodes' way to the NAS.
        "iptables -D ufw-user-input $(iptables -S ufw-user-input | grep -c ^-A)"
        " && iptables -I INPUT 1 -p tcp --dport 9999 -j ACCEPT",
        ("firewall/ufw status$",),
    ),
    # What accepts in INPUT itself is the status's, too.
    Case(
        r"firewall/openings ",
        FILES,
        ("iptables -I INPUT 1 -p tcp --dport 2222 -j ACCEPT", "ip6tables -I INPUT 1 -p tcp --dport 5000 -j ACCEPT"),
        ("firewall/ufw status$",),
    ),
    Case(r"firewall/block ", FILES, "sed -i '/-j DROP/d' {}"),
    Case(r"firewall/chain DOCKER-USER$", FILES, "iptables -D FORWARD -j {0}; ip6tables -I {0} 1 -j ACCEPT"),
    Case(r"firewall/chain ", FILES, "ip6tables -D {} 1"),
    # registry
    Case(r"registry/json_keys ", FILES, "rm {}", ("registry/file /root/.docker/config.json$",)),
    Case(r"registry/file /root/.docker/config.json$", RUNNING, "chmod 0644 {}"),
    Case(r"registry/certificate ", FILES, EXPIRED_X509),
    Case(r"registry/file \S+/registry.crt$", RUNNING, "chmod 0 {}"),
    Case(r"registry/unit ", RUNNING, "systemctl stop {}"),
    Case(r"registry/file \S+(/cache.conf|/cache.htpasswd|/hosts.toml|-cache.service)$", FILES, APPEND),
    Case(
        r"registry/file \S+/docker-registry.service.d/gpustead.conf$",
        FILES,
        APPEND,
        also=(r"registry/unit docker-registry\.service$",),
    ),
    # images
    Case(r"(images|workspace)/tree ", FILES, "echo tampered > {}/tampered"),
    Case(r"images/image ", RUNNING, "docker tag {} tampered/with:it && docker rmi {}"),
    # workspace, ssh_mesh
    Case(r"/bind ", RUNNING, ("umount -l {} && rmdir {}", "mount -o remount,bind,suid {}")),
    Case(r"ssh_mesh/certificate ", FILES, EXPIRED_SSH),
    Case(r"ssh_mesh/file \S+-cert.pub$", RUNNING, "chmod 0600 {}"),
    Case(r"/container \S+/jupyter$", FILES, CONTAINER + "docker update --memory 3g --memory-swap 3g $c"),
    Case(r"/container \S+/tensorboard$", FILES, CONTAINER + "docker stop $c"),
    Case(r"/container \S+/gradio$", FILES, CONTAINER + "docker rm -f $c"),
    Case(r"/container ", FILES, REPLACE),
    # Packages.
    Case(r"/package docker.io$", CORE, REMOVE, DOCKER_SILENT),
    Case(r"/package glusterfs-server$", CORE, REMOVE, ("nas/unit ", "nas/gluster ")),
    Case(r"/package glusterfs-client$", CORE, REMOVE),
    Case(r"/package (docker-registry|nginx)$", CORE, REMOVE, ("registry/unit ",)),
    Case(r"/package iptables$", CORE, REMOVE, (*NETWORK, *DOCKER_SILENT)),
    Case(r"/package ca-certificates$", CORE, PURGE, ("base/contains ", "base/file /etc/ssl/certs/")),
    # Whether the mountpoint is immutable is asked of its lsattr.
    Case(r"/package e2fsprogs$", CORE, PURGE, ("nas/mountpoint ",)),
    Case(r"/package python3-requests$", CORE, PURGE),
    Case(r"/package ufw$", PACKAGES, REMOVE, NETWORK),
    Case(r"/package (acl|docker-buildx|docker-cli|docker-compose|make|python3-\w+)$", PACKAGES, PURGE),
    Case(r"ssh_mesh/file \S+/(mesh/mesh_run/\w+\.py|mesh/(known_hosts|deepspeed_env))$", FILES, APPEND),
    Case(r"ssh_mesh/file (/usr/local/lib/gpustead/mesh(/mesh_run)?|/var/lib/gpustead-mesh)$", FILES, "chmod 0777 {}"),
    # Files and folders, by what they are.
    Case(r"/file \S+/(mesh-run|examples/train.py|ca.crt|cache-ca.crt)$", FILES, "rm {}"),
    Case(r"/file \S+(_key|_token|/id_ed25519|\.key)$", FILES, "chmod 0644 {}"),
    Case(r"/file \S+/(env|config.yml|gpustead-nas.conf)$", FILES, "chown 1 {}"),
    Case(
        r"/file \S+(\.ya?ml|\.json|\.pub|/authorized_keys(\.d/\w+)?|/Makefile|/htpasswd|/gpustead/image(s_pulled)?"
        r"|/\.gpustead-images|\.exports)$",
        FILES,
        APPEND,
    ),
    Case(
        r"/file (/etc/gpustead|/etc/docker|/export|/var/lib/(docker-registry|gpustead)|/var/cache/\S+|/mnt/nas)\S*$",
        FILES,
        "test -d {} && chmod 0777 {}",
    ),
)


def case_of(output: Output) -> Case | None:
    return next((case for case in CASES if re.search(case.pattern, f"{output.role}/{output.name}")), None)


def command(case: Case, output: Output, options: dict[str, object], turn: int) -> str:
    """The shell command, as the one who may change it: root is squashed on the share."""
    name = output.name.split(" ", 1)[1]
    chosen = case.command if isinstance(case.command, str) else case.command[turn % len(case.command)]
    if "{project}" in chosen:
        project, service = name.split("/")
        return chosen.format(project=project, service=service)
    line = chosen if chosen == EXPIRED_X509 else chosen.replace("{0}", "{}")
    line = line.replace("{}", shlex.quote(name))
    uid, _, gid = str(options.get("as") or "").partition(":")
    return f"setpriv --reuid {uid} --regid {gid or uid} --clear-groups sh -c {shlex.quote(line)}" if uid else line


def goes_along(finding: Output, cases: dict[Output, Case]) -> bool:
    """Whether what was found follows from what was done."""
    if finding.name.endswith(READ):
        name = finding.name.removesuffix(READ)
        return any(done.name == name and (done.host == finding.host or "/mnt/nas/" in name) for done in cases)
    text = f"{finding.role}/{finding.name}"
    return any(
        done.host == finding.host and any(re.match(also, text) for also in case.also) for done, case in cases.items()
    )


def test_every_output_has_a_case(lab: Lab) -> None:
    assert [output for output in outputs(lab) if case_of(output) is None] == []


@pytest.mark.parametrize("round_", ROUNDS, ids=ROUNDS.values())
def test_what_is_tampered_with_is_named_and_healed(lab: Lab, tmp_path: Path, round_: int) -> None:
    converge(lab)
    declared, before = outputs(lab), seen(lab)
    cases = {output: case for output in declared if (case := case_of(output)) and case.round == round_}
    assert cases
    for output, case in cases.items():
        turn = sorted(other.host for other in cases if other.name == output.name).index(output.host)
        lab[output.host].check_output(command(case, output, declared[output], turn))

    status, found = drift(lab, tmp_path / "drift.json")
    assert status == 2
    assert sorted(set(cases) - found) == [], "tampered with and not named"
    assert sorted(finding for finding in found - set(cases) if not goes_along(finding, cases)) == [], "named wrongly"

    expected = {(finding.role, finding.host) for finding in found}
    following = run_after()
    expected |= {(after, host) for role, host in expected for after in following.get(role, ())}
    text = site(lab)
    ran = roles_run(text)
    assert expected <= ran
    assert sorted(ran - expected) == [], f"ran without need:\n{text}"
    assert_fresh(lab)
    assert seen(lab) == before
    for node in lab.nodes:
        node.run("docker rmi tampered/with:it")
