"""One server without a NAS and a registry becomes a cluster by a run on itself; then a second node and a NAS join it.

`make test-one` makes the hosts and takes them away. The controller is gpu01 itself: Ansible lies there, in an
environment of its own, with the collection from its archive. The tests go on from one another; where one fails the rest
is not run.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import support
import yaml
from conftest import PROJECT, Host, Lab

MINE = "/root/mycluster"
EXAMPLE = (PROJECT / "inventory/example-one/hosts.yml").read_text()
KERNEL = (PROJECT / "tests/integration/kernel_client.py").read_text()
USERS = {"ada": 1500, "grace": 1501}
PROJECTS = {"ada": "gpustead-workspace", "grace": "gpustead-workspace-grace"}
# Of the lab's own settings those that are of its hosts, and none of its NAS.
NOT_OURS = ("cluster_network", "cluster_clients", "cluster_users", "cluster_ca_passphrase", "nas_source", "nas_fstype")
NAS = {"nas_source": "10.218.10.5:/nas", "nas_fstype": "glusterfs"}
BIG = 96  # MiB of a file that takes a while
# What people have, and who can see it.
DATA = {"ada": "users/ada/mine users/ada/data shared", "grace": "users/grace/mine users/grace/work"}


class Site:
    """gpu01 as the controller, with the lab's hosts."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.one, self.two, self.nas = lab["gpu01"], lab["gpu02"], lab["nas"]

    def put(self, path: str, text: str) -> None:
        source = self.folder / "text"
        source.write_text(text)
        self.bring(source, path)

    def bring(self, source: Path, path: str, host: str = "gpu01") -> None:
        """Files of this machine, past the host's sshd: wheels are large."""
        container = f"gpustead-{self.one.variables['cluster_name']}-{host}"
        subprocess.run(["docker", "exec", container, "mkdir", "-p", str(Path(path).parent)], check=True)
        subprocess.run(["docker", "cp", str(source), f"{container}:{path}"], check=True)
        subprocess.run(["docker", "exec", container, "chown", "-R", "root:root", path], check=True)

    def typed(self, command: str) -> Any:
        """In the directory of the cluster, with the environment."""
        return self.one.run(f"cd {MINE} && . /root/venv/bin/activate && export ANSIBLE_NOCOLOR=1 && {command}")

    def playbook(self, name: str, *arguments: str) -> Any:
        return self.typed(f"ansible-playbook -i inventory gpustead.cluster.{name} {' '.join(arguments)}")

    def converge(self, *arguments: str) -> str:
        done = self.playbook("site", *arguments)
        assert done.rc == 0, done.stdout + done.stderr
        return str(done.stdout)

    def files(self, host: Host, top: str = "/mnt/nas") -> set[str]:
        """What people have there, with ids, modes, links and checksums, as they see it: on the share root is nobody."""
        lines = []
        for owner, paths in DATA.items():
            look = f"cd {top} && find {paths} -printf '%p %y %U:%G %#m %l\\n' -type f -exec sha256sum {{}} \\;"
            lines += host.check_output(f'{self.as_account(owner)} sh -c "{look}"').splitlines()
        return {*lines}

    def as_account(self, owner: str) -> str:
        return f"setpriv --reuid {USERS[owner]} --regid {USERS[owner]} --clear-groups"


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Ansible on gpu01, the collection, and the inventory."""
    found = Site(lab, tmp_path_factory.mktemp("one"))
    assert found.one.run("test -e /var/lib/gpustead/receipts").rc != 0, "gpu01 is not fresh"
    for authority in found.one.variables["cluster_ca_certificates"]:
        found.bring(Path(authority), f"/usr/local/share/ca-certificates/{Path(authority).name}")
    found.one.check_output("update-ca-certificates >/dev/null")
    found.one.check_output("apt-get -qq update && apt-get -qqy --no-install-recommends install python3-venv openssl")
    found.one.check_output(
        "python3 -m venv /root/venv && PIP_CERT=/etc/ssl/certs/ca-certificates.crt "
        "/root/venv/bin/pip install --quiet 'ansible>=12' passlib 'bcrypt<5'"
    )
    command = ["ansible-galaxy", "collection", "build", str(PROJECT), "--output-path", str(found.folder)]
    subprocess.run(command, check=True, capture_output=True)
    found.bring(next(found.folder.glob("*.tar.gz")), "/root/collection.tar.gz")
    found.bring(PROJECT / "docs/ansible.cfg", f"{MINE}/ansible.cfg")
    found.one.check_output("/root/venv/bin/ansible-galaxy collection install --no-deps /root/collection.tar.gz")
    write_inventory(found)
    return found


def write_inventory(site: Site) -> None:
    """The example with the lab's network and key, and beside it what the lab's hosts need."""
    settings = yaml.safe_load((site.lab.inventory / "group_vars/all/cluster.yml").read_text())
    key = settings["cluster_users"][0]["ssh_keys"][0]
    text = re.sub(r"ssh-ed25519 AAAA\w+example \w+@laptop", key, EXAMPLE).replace("10.20.0.0/24", "10.218.10.0/24")
    assert len(text.splitlines()) < 12
    site.put(f"{MINE}/inventory/hosts.yml", text)
    ours = {name: value for name, value in settings.items() if name not in NOT_OURS}
    archive = next((site.lab.inventory / ".images").glob("*.tar"))
    site.bring(archive, f"/root/images/{archive.name}")
    ours["images_base_archive"] = f"/root/images/{archive.name}"
    if ours["images_wheelhouse"]:
        site.bring(Path(ours["images_wheelhouse"]), "/root/wheels")
        ours["images_wheelhouse"] = "/root/wheels"
    site.put(f"{MINE}/inventory/group_vars/all/lab.yml", yaml.safe_dump(ours))
    site.put(f"{MINE}/inventory/group_vars/all/secret.yml", "cluster_ca_passphrase: a passphrase of the lab's own\n")


def train(site: Site, nodes: int, ranks: int) -> str:
    done = site.one.compose(
        "gpustead-mesh",
        "mesh",
        f"mesh-run --nodes {nodes} --gpus-per-node {ranks} /opt/gpustead/examples/train.py",
        user="ada",
    )
    assert done.rc == 0, done.stdout + done.stderr
    return str(done.stdout)


def notebook(site: Site, host: Host, owner: str, code: str) -> str:
    """What code prints in JupyterLab."""
    token = host.check_output(f"runuser -u {owner} -- cat /mnt/nas/users/{owner}/.config/gpustead/jupyter_token")
    done = host.run(
        f"docker compose -p {PROJECTS[owner]} exec -T jupyter /opt/venv/bin/python - "
        f"http://localhost:8888 {token} {json.dumps(code)} <<'EOF'\n{KERNEL}\nEOF"
    )
    assert done.rc == 0, done.stdout + done.stderr
    return str(done.stdout)


def test_the_inventory_alone_makes_it_a_cluster(site: Site) -> None:
    text = site.converge()
    assert "asked one by one next: gpu01" in text
    done = site.playbook("verify")
    assert done.rc == 0, done.stdout + done.stderr


def test_a_second_run_changes_nothing(site: Site) -> None:
    text = site.converge()
    assert "is stale:" not in text
    drift = site.playbook("drift")
    assert drift.rc == 0, drift.stdout + drift.stderr


def test_no_share_is_mounted_and_no_registry_is_asked(site: Site) -> None:
    mount = site.one.check_output("findmnt -n -o FSTYPE,OPTIONS /mnt/nas")
    assert "gluster" not in mount and "nosuid" in mount and "nodev" in mount
    assert site.one.run("grep /mnt/nas /etc/fstab").rc != 0
    assert site.one.run("test -e /etc/systemd/system/docker.service.d/gpustead-nas.conf").rc != 0
    assert site.one.check_output("stat -c '%U %a' /mnt/nas /mnt/nas/users") == "gpustead 1775\ngpustead 1775"
    image = site.one.check_output("cat /etc/gpustead/image")
    assert re.fullmatch("sha256:[0-9a-f]{64}", image)
    assert site.one.check_output(f"docker image inspect --format '{{{{.Id}}}}' {image}") == image
    record = json.loads(site.one.check_output("cat /mnt/nas/.cluster/images.json"))
    assert record["workspace"]["ref"].startswith("localhost/gpustead/") and record["workspace"]["ref"].endswith(image)
    assert site.one.run("test -e /root/.docker/config.json").rc != 0


def test_two_people_work_in_notebooks_and_share(site: Site) -> None:
    for owner, uid in USERS.items():
        code = f"open('/home/{owner}/mine', 'w').write('{owner}'); print(sum(range(5)))"
        assert "10" in notebook(site, site.one, owner, code)
        ids = site.one.check_output(f"stat -c %u:%g /mnt/nas/users/{owner}/mine")
        assert ids == f"{uid}:{uid}"
    assert notebook(site, site.one, "ada", "open('/shared/of ada', 'w').write('all')") == ""
    assert "all" in notebook(site, site.one, "grace", "print(open('/shared/of ada').read())")
    assert site.one.run("runuser -u grace -- cat /mnt/nas/users/ada/mine").rc != 0
    for port in (support.PORTS["jupyter"], support.ports_of(USERS["grace"])["jupyter"]):
        assert site.two.run(f"timeout 5 bash -c '</dev/tcp/{site.one.address}/{port}'").rc == 0


def test_two_ranks_run(site: Site) -> None:
    assert re.search(r"OK world_size=2", train(site, nodes=1, ranks=2))


def test_it_comes_back_after_a_boot(site: Site) -> None:
    """The place is a mount of its own before anybody's process runs."""
    site.one.check_output("umount /mnt/nas; systemctl restart gpustead-covers.service")
    assert "nosuid" in site.one.check_output("findmnt -n -o OPTIONS /mnt/nas")
    assert site.playbook("verify").rc == 0


def test_what_was_broken_comes_back(site: Site) -> None:
    """Of each kind that a single node has instead of a share and a registry."""
    image = site.one.check_output("cat /etc/gpustead/image")
    site.one.check_output("umount /mnt/nas; chmod 0777 /mnt/nas; rm /etc/gpustead/image")
    text = site.converge()
    assert "gpu01 is stale" in text and "nas: " in text and "images: " in text
    assert site.one.check_output("stat -c %a /mnt/nas; cat /etc/gpustead/image") == f"1775\n{image}"
    assert "nosuid" in site.one.check_output("findmnt -n -o OPTIONS /mnt/nas")


# A second node and a NAS


def sums(files: set[str]) -> set[str]:
    return {line for line in files if re.match("[0-9a-f]{64} ", line)}


def grown(site: Site) -> dict[str, Any]:
    """The inventory of the cluster that it becomes: the node as it was, reached by its address."""
    found: dict[str, Any] = yaml.safe_load(site.one.check_output(f"cat {MINE}/inventory/hosts.yml"))
    found["all"]["vars"].update(NAS)
    found["gpu_nodes"]["hosts"] = {
        "gpu01": {**found["gpu_nodes"]["hosts"]["gpu01"], "cluster_address": site.one.address},
        "gpu02": {"ansible_host": site.two.address, "ansible_user": "root"},
    }
    nas = {"nas": {"ansible_host": site.nas.address, "ansible_user": "root"}}
    return {**found, "nas_server": {"hosts": nas}, "registry": {"hosts": nas}}


@pytest.fixture(scope="module")
def before(site: Site) -> set[str]:
    """What people have on the node's own disk; of sizes and kinds that differ."""
    of_ada = f"""mkdir -p /mnt/nas/users/ada/data/closed && cd /mnt/nas/users/ada/data
head -c {BIG}M /dev/urandom >big && chmod 0600 big && ln big again && ln -s ../mine link
echo x >closed/file && chmod 0444 closed/file && chmod 0555 closed"""
    of_grace = """umask 077; mkdir /mnt/nas/users/grace/work && cd /mnt/nas/users/grace/work
for i in $(seq 200); do echo $i >f$i; done"""
    for owner, script in (("ada", of_ada), ("grace", of_grace)):
        site.one.check_output(f"{site.as_account(owner)} sh -eu <<'EOF'\n{script}\nEOF")
    return site.files(site.one)


def test_several_nodes_without_a_nas_are_refused(site: Site) -> None:
    hosts = grown(site)
    del hosts["nas_server"], hosts["registry"], hosts["all"]["vars"]["nas_source"]
    site.put("/root/several/hosts.yml", yaml.safe_dump(hosts))
    done = site.typed(
        f"ansible-playbook -i /root/several -e @{MINE}/inventory/group_vars/all/secret.yml gpustead.cluster.preflight"
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert done.rc != 0
    assert "2 nodes have no other place in common" in said and "registry: the inventory has no host" in said


def test_the_nas_does_not_hide_the_files(site: Site, before: set[str]) -> None:
    site.one.check_output("test -e /root/.ssh/id_ed25519 || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
    key = site.one.check_output("cat /root/.ssh/id_ed25519.pub")
    for host in (site.two, site.nas):
        host.check_output(f"echo '{key}' >>/root/.ssh/authorized_keys")
        site.one.check_output(f"ssh-keyscan -t ed25519 {host.address} >>/root/.ssh/known_hosts")
    site.put(f"{MINE}/inventory/hosts.yml", yaml.safe_dump(grown(site)))
    site.converge("--limit", "nas")
    done = site.playbook("site", "--limit", "gpu01")
    assert done.rc != 0
    assert "move_to_nas.yml" in done.stdout + done.stderr
    assert site.files(site.one) == before


def test_nothing_is_switched_while_somebody_is_in_there(site: Site, before: set[str]) -> None:
    done = site.playbook("move_to_nas")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.rc != 0
    assert "container gpustead-workspace-jupyter-1" in said and "Nothing was switched" in said
    assert "gluster" not in site.one.check_output("findmnt -n -o FSTYPE /mnt/nas")
    assert "10" in notebook(site, site.one, "ada", "open('/home/ada/mine', 'a').write('!'); print(10)")
    assert site.files(site.one) != before  # people go on


def test_a_move_that_is_killed_is_taken_up_again(site: Site) -> None:
    site.one.check_output("docker stop $(docker ps --quiet)")
    here = site.files(site.one)
    for seconds in (15, 25, 40):
        site.typed(f"timeout --signal KILL {seconds} ansible-playbook -i inventory gpustead.cluster.move_to_nas")
    done = site.playbook("move_to_nas")
    assert done.rc == 0, done.stdout + done.stderr
    assert "gluster" in site.one.check_output("findmnt -n -o FSTYPE /mnt/nas")
    assert site.files(site.one) == here
    # The originals lie beneath, for root alone, and nothing of them is missing.
    beneath = "/run/beneath/mnt/nas"
    site.one.check_output("mkdir -p /run/beneath && mount --bind / /run/beneath")
    try:
        assert site.one.run(f"{site.as_account('ada')} ls {beneath}/users").rc != 0
        # Mode 0 is what closes it where the file system has no immutable flag.
        assert site.one.check_output(f"stat -c %u:%a {beneath}") in ("0:700", "0:0")
        found = site.one.check_output(f"cd {beneath} && find users shared -type f -exec sha256sum {{}} +").splitlines()
        assert sums(here) <= {*found}
    finally:
        site.one.check_output("umount /run/beneath")
    again = site.playbook("move_to_nas")
    assert again.rc == 0 and "has no files of the cluster on its own disk" in " ".join(again.stdout.split())


def test_the_second_node_joins_and_everything_is_there(site: Site) -> None:
    here = site.files(site.one)
    site.converge()
    done = site.playbook("verify")
    assert done.rc == 0, done.stdout + done.stderr
    assert site.files(site.one) == site.files(site.two) == here
    for host in (site.one, site.two):
        assert "ada!" in notebook(site, host, "ada", "print(open('/home/ada/mine').read())")
        assert "all" in notebook(site, host, "grace", "print(open('/shared/of ada').read())")
    assert re.search(r"OK world_size=2", train(site, nodes=2, ranks=1))
    record = json.loads(site.two.check_output("cat /mnt/nas/.cluster/images.json"))
    assert record["workspace"]["ref"].startswith(f"{site.nas.address}:5000/gpustead/")
    assert support.receipts(site.one).keys() >= support.receipts(site.two).keys()
    text = site.converge()
    assert "is stale:" not in text
