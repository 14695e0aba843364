# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names of accounts and groups: what hosts and directories take, and which the system and packages have."""

from __future__ import annotations

import re

# What useradd takes on every supported release, and a directory has (`ada.lovelace`, `Ada`). With a dot in front it
# would be hidden, with a dash be an option, and of digits alone be a uid. Debian 12 takes 32 characters at most.
FORM = "up to 32 of letters, digits, '_', '.' and '-', beginning with a letter, a digit or '_', not digits alone"
_NAME = re.compile(r"(?![0-9]+\Z)[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\Z")

# Groups that are in every host's /etc/group with these ids.
FIXED_GROUPS = {"users": 100}
# base-passwd's passwd.master and group.master, on Debian 12 and 13 and Ubuntu 22.04 and 24.04.
_BASE = """
root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody _apt adm tty disk kmem
dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff users nogroup
"""
# systemd's sysusers.d, and the maintainers' scripts of what else is on a server from the beginning.
_SERVER = """
input kvm render sgx clock messagebus polkitd systemd-coredump systemd-journal systemd-network systemd-oom
systemd-resolve systemd-timesync _chrony _ssh ssh sshd crontab dhcpcd landscape lxd netdev ssl-cert syslog tcpdump tss
uuidd
"""
# Those of docker-ce, nfs-common and rpcbind, GlusterFS, Ceph, NVIDIA's driver, and RDMA.
_CLUSTER = "docker _rpc statd gluster ceph nvidia-persistenced rdma"
# Packages look for users and groups by name, and take what they find: in a group `docker` that was made for an account,
# this account would be root.
RESERVED = frozenset(f"{_BASE} {_SERVER} {_CLUSTER}".split())


def is_name(name: object) -> bool:
    """Whether it can be the name of an account or of a group."""
    return isinstance(name, str) and bool(_NAME.match(name))


def is_group(name: object) -> bool:
    """Whether it can be a primary group: a directory has names with blanks and more, such as `domain users`."""
    return isinstance(name, str) and name.isprintable() and bool(re.match(r"[^\s:,-][^:,]*(?<!\s)\Z", name))


def reserved(name: str) -> str:
    """Why an account must not have this name, in words; empty where it may."""
    return (
        f"{name} is a name that the system, or a package of the cluster's, has for its own" if name in RESERVED else ""
    )
