# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The file by which one ufw waits for another, without end. Whoever may read a file may lock it.

ufw makes it for all to read, and leaves it there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import of_system

LOCK = "/run/ufw.lock"


def close_to_accounts(path: str = LOCK) -> None:
    """Have a file there that root alone can open; to be called before ufw is run.

    Another is put in the place of one that is open to others: what holds that keeps nobody waiting then.

    Raises:
        GpusteadError: it cannot be made.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
                return
        fresh = f"{path}.{secrets.token_hex(6)}"
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.replace(fresh, path)
    except OSError as error:
        raise of_system(error, f"the lock of ufw, {path}") from error
