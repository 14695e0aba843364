"""A file system of an account's own, as fusermount mounts one for it: it takes what it is asked, and never answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from conftest import Host

# In the place of fusermount, which need not be installed; the kernel is told whose it is just as by that.
SERVE = """
import ctypes, os, struct, sys
path, uid, all_users = bytes.fromhex(sys.argv[1]), sys.argv[2], sys.argv[3:]
device = os.open("/dev/fuse", os.O_RDWR)
options = ",".join([f"fd={device},rootmode=40000,user_id={uid},group_id={uid}", *all_users]).encode()
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"own", path, b"fuse.own", 2 | 4, options):
    sys.exit(os.strerror(ctypes.get_errno()))
served = os.fork()
if served:
    print(served)
    sys.exit()
os.setsid()
for one in (0, 1, 2):
    os.dup2(os.open("/dev/null", os.O_RDWR), one)
while True:
    length, code, unique = struct.unpack_from("<IIQ", os.read(device, 1 << 17))
    if code == 26:  # FUSE_INIT
        about = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, 4096, 1, 1, 0, 0)
        os.write(device, struct.pack("<IiQ", 16 + len(about), 0, unique) + about)
"""


@contextmanager
def own_mount(host: Host, path: bytes, uid: str, *options: str) -> Iterator[None]:
    """One on a directory, which is made for it where it is missing."""
    make = f"import os, sys; os.makedirs(bytes.fromhex('{path.hex()}'), exist_ok=True)"
    host.check_output(f'python3 -c "{make}"')
    host.check_output(f"cat > /run/own_mount.py <<'X'\n{SERVE}\nX")
    served = host.check_output(f"python3 /run/own_mount.py {path.hex()} {uid} {' '.join(options)}")
    try:
        yield
    finally:
        # Who still waits for an answer gets one then.
        undo = f"import ctypes; ctypes.CDLL(None).umount2(bytes.fromhex('{path.hex()}'), 2)"
        host.run(f'kill {served}; python3 -c "{undo}"; rm -f /run/own_mount.py')
