# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys on trial: those of the account as which Ansible logs in are taken back unless a new login proves them in time.

What was there is kept beside them, and a timer puts it in its place again, as the account. A reboot ends the trial.
"""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import apply_authorized_keys as keys_file
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import (
    FILE,
    FOLDER,
    DesiredKeys,
    Outcome,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

# Until the keys are taken back; with a login that is tried twice well within a minute.
SECONDS = 45
# How often a take-back that has begun is waited for: 10 s in all, for what is one rename.
_ROUNDS = 50


def unit(desired: DesiredKeys) -> str:
    return f"gpustead-keys-takeback-{desired.uid}"


def is_armed(run: Run, desired: DesiredKeys) -> bool:
    return run(["systemctl", "is-active", "--quiet", f"{unit(desired)}.timer"])[0] == 0


def apply(run: Run, desired: DesiredKeys) -> Outcome:
    """Change the keys with what was there kept, and the time running.

    Raises:
        GpusteadError: they could not be changed; or no timer could be started, and nothing was.
    """
    abandon(run, desired)
    planned = keys_file.apply_as_account(desired, check_only=True)
    if not planned.removed:  # who got in so far still gets in
        return keys_file.apply_as_account(desired, check_only=False)
    keys_file.as_the_account(keys_file.keep, desired)
    folder = f"{desired.home.rstrip('/')}/{FOLDER}"
    timer = [f"--unit={unit(desired)}", f"--on-active={SECONDS}", "--timer-property=AccuracySec=1s"]
    ids = [f"--uid={desired.uid}", f"--gid={desired.gid}"]
    back = ["/bin/mv", "-f", "-T", "--", f"{folder}/{keys_file.FORMER}", f"{folder}/{FILE}"]
    code, out, err = run(["systemd-run", "--quiet", *timer, *ids, *back])
    if code:
        keys_file.as_the_account(keys_file.forget, desired)
        what = f"no timer could be started to take the keys of '{desired.name}' back ({' '.join((err or out).split())})"
        raise GpusteadError(what, "systemd-run to work", "Nothing was changed: see systemctl status, then run again.")
    try:
        return keys_file.apply_as_account(desired, check_only=False)
    except GpusteadError:
        abandon(run, desired)
        raise


def abandon(run: Run, desired: DesiredKeys) -> None:
    """End a trial that nobody proved: what was there before it is there again."""
    if is_armed(run, desired):
        run(["systemctl", "stop", f"{unit(desired)}.timer"])
        keys_file.as_the_account(keys_file.take_back, desired)


def prove(run: Run, desired: DesiredKeys) -> bool:
    """End a trial well: what is there stays. False where it was taken back already."""
    run(["systemctl", "stop", f"{unit(desired)}.timer"])
    # One that is at it must come to its end. It runs as the account, which may hold it up.
    service = f"{unit(desired)}.service"
    for _turn in range(_ROUNDS):
        if run(["systemctl", "is-active", "--quiet", service])[0] != 0:
            break
        run(["sleep", "0.2"])
    else:
        run(["systemctl", "kill", "--signal=SIGKILL", service])
    stays: bool = keys_file.as_the_account(keys_file.forget, desired)
    return stays


def is_over(run: Run, desired: DesiredKeys) -> bool:
    """Whether it was taken back."""
    return not is_armed(run, desired) and not keys_file.as_the_account(keys_file.is_kept, desired)
