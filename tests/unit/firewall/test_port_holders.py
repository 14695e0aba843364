# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who listens on our ports: real sockets of real processes of other accounts."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.port_holders import PortHolder, holders, refuse

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starts processes of other accounts")
ADA = 64001
LISTEN = """
import os, socket, sys
open("/proc/self/comm", "wb").write({name})
os.setgid({uid}); os.setuid({uid})
server = socket.socket(socket.AF_INET6 if ":" in {address!r} else socket.AF_INET)
server.bind(({address!r}, 0)); server.listen()
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def listener(uid: int, address: str = "127.0.0.1", name: bytes = b"squatter") -> Iterator[tuple[int, int]]:
    """Port and number of a process that listens."""
    command = [sys.executable, "-c", LISTEN.format(uid=uid, address=address, name=name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        yield int(process.stdout.readline()), process.pid
        process.stdin.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_an_accounts_process_is_named(address: str) -> None:
    with listener(ADA, address) as (port, pid):
        assert holders([port]) == [PortHolder(port, f"uid {ADA}", pid, "squatter")]
        assert holders([port + 1 if port < 65535 else 1]) == []


def test_root_and_who_is_allowed_may_listen() -> None:
    nobody = int(subprocess.run(["id", "-u", "nobody"], capture_output=True, text=True, check=True).stdout)
    with listener(0) as (roots, _), listener(nobody) as (others, pid):
        assert holders([roots]) == []
        assert holders([others], ["nobody"]) == []
        assert holders([others]) == [PortHolder(others, "nobody", pid, "squatter")]


def test_a_connection_of_roots_is_not_judged() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert holders([client.getsockname()[1]]) == []


HOLD = """
import os, socket, sys
os.setgid({uid}); os.setuid({uid})
kept = [socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
kept[0].bind(("127.0.0.1", 0))
if {calls}:
    kept.append(socket.create_server(("127.0.0.1", 0)))
    kept[0].connect(kept[-1].getsockname())
print(kept[0].getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("calls", [False, True])
def test_who_keeps_a_port_without_listening_there_is_named(calls: bool) -> None:
    command = [sys.executable, "-c", HOLD.format(uid=ADA, calls=calls)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        port = int(process.stdout.readline())
        found = holders([port])
        assert [(one.port, one.account, one.pid) for one in found] == [(port, f"uid {ADA}", process.pid)]
        process.stdin.close()
    assert holders([port]) == []


# How an account keeps a socket where a look at what its process has open does not meet it.
KEEP = """
import array, ctypes, os, socket, sys, threading
os.setgid({uid}); os.setuid({uid})
libc, pair = ctypes.CDLL(None, use_errno=True), socket.socketpair(socket.AF_UNIX)

def bound():
    one = socket.socket()
    one.bind(("127.0.0.1", 0))
    os.write(1, b"%d\\n" % one.getsockname()[1])
    return one

def in_another_network():
    one = bound()
    os.write(1, b"%d\\n" % libc.unshare(0x10000000 | 0x40000000))
    sys.stdin.read()

def sent_and_not_taken():
    file = bound().detach()
    pair[0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
    os.close(file)
    os.write(1, b"0\\n")
    sys.stdin.read()

def by_a_thread_alone():
    def work():
        assert libc.unshare(0x400) == 0  # files of its own
        one = bound()
        os.write(1, b"0\\n")
        os.read(0, 1)
        os._exit(0)

    threading.Thread(target=work).start()
    libc.syscall({exit}, 0)  # the first thread ends, the process does not

{how}()
"""
NUMBER_OF_EXIT = 60 if os.uname().machine == "x86_64" else 93


@pytest.mark.parametrize("how", ["in_another_network", "sent_and_not_taken", "by_a_thread_alone"])
def test_who_keeps_a_port_where_it_is_hard_to_see_does_not_pass(how: str) -> None:
    command = [sys.executable, "-c", KEEP.format(uid=ADA, how=how, exit=NUMBER_OF_EXIT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        port, failed = int(process.stdout.readline()), int(process.stdout.readline())
        found = holders([port])
        process.stdin.close()
    if failed:
        pytest.skip("no networks of their own here")
    (one,) = found
    assert one.port == port
    if how == "sent_and_not_taken":
        assert str(one) == "a process of account 'unknown (no process shows it)'"
    elif one.pid:  # before Linux 6.9 a thread cannot be asked
        assert (one.account, one.pid) == (f"uid {ADA}", process.pid)
    assert holders([port]) == []


def test_a_container_has_ports_of_its_own() -> None:
    own = "import ctypes; assert not ctypes.CDLL(None).unshare(0x40000000)\n"
    command = [sys.executable, "-c", own + HOLD.format(uid=ADA, calls=False).replace('"127.0.0.1"', '"0.0.0.0"')]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        port = int(process.stdout.readline())
        assert holders([port]) == []
        process.stdin.close()


def test_where_accounts_have_too_many_files_open_the_port_is_refused_all_the_same() -> None:
    command = [sys.executable, "-c", HOLD.format(uid=ADA, calls=False)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        port = int(process.stdout.readline())
        (found,) = holders([port], seconds=-1)
        assert (found.port, found.pid) == (port, 0)
        assert "has too many files open to look through" in str(found)
        process.stdin.close()
    with listener(ADA) as (port, _pid):
        assert holders([port], seconds=-1) == [PortHolder(port, f"uid {ADA}", 0, "")]


SWARM = """
import os, socket, sys
os.setgid({uid}); os.setuid({uid})
server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]
for number in range(2, 15):
    if os.fork() == 0:
        server = socket.create_server((f"127.0.0.{{number}}", port))
        os.write(1, f"{{port}}\\n".encode())
        sys.stdin.read()
        os._exit(0)
sys.stdin.read()
"""


def test_of_many_processes_at_a_port_the_first_are_named() -> None:
    command = [sys.executable, "-c", SWARM.format(uid=ADA)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        port = {int(process.stdout.readline()) for _each in range(2, 15)}.pop()
        found = holders([port])
        assert len(found) == 10
        assert {one.port for one in found} == {port}
        process.stdin.close()


def test_the_refusal_names_port_account_process_and_remedy_without_escapes() -> None:
    with listener(ADA, name=b"\x1b[2J\xe2\x80\xaex") as (port, pid):
        found = holders([port])
    with pytest.raises(GpusteadError) as refused:
        refuse({"jupyter of ada": port}, found, "set workspace_ports")
    said = str(refused.value)
    assert f"port {port} (jupyter of ada) is taken by process {pid} (\\x1b[2J\\u202ex) of account 'uid {ADA}'" in said
    assert "End what listens there, or set workspace_ports." in said
    assert said.isprintable()
    refuse({"jupyter": port}, [], "set workspace_ports")
