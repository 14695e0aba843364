# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys on trial: those of the account as which Ansible logs in are taken back unless a new login proves them in time.

What was there is kept beside them, and a timer puts it in its place again, as the account. A reboot ends the trial.
"""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import authorized_keys as keys
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

# Until the keys are taken back; with a login that is tried twice well within a minute.
SECONDS = 45
# How often a take-back that has begun is waited for: 10 s in all, for what is one rename.
_ROUNDS = 50


def unit(wish: keys.Wish) -> str:
    return f"gpustead-keys-takeback-{wish.uid}"


def is_armed(run: Run, wish: keys.Wish) -> bool:
    return run(["systemctl", "is-active", "--quiet", f"{unit(wish)}.timer"])[0] == 0


def settle(run: Run, wish: keys.Wish) -> keys.Outcome:
    """Change the keys with what was there kept, and the time running.

    Raises:
        GpusteadError: they could not be changed; or no timer could be started, and nothing was.
    """
    abandon(run, wish)
    planned = keys.settle_as_account(wish, check_only=True)
    if not planned.removed:  # who got in so far still gets in
        return keys.settle_as_account(wish, check_only=False)
    keys.as_the_account(keys.keep, wish)
    folder = f"{wish.home.rstrip('/')}/{keys.FOLDER}"
    timer = [f"--unit={unit(wish)}", f"--on-active={SECONDS}", "--timer-property=AccuracySec=1s"]
    ids = [f"--uid={wish.uid}", f"--gid={wish.gid}"]
    back = ["/bin/mv", "-f", "-T", "--", f"{folder}/{keys.FORMER}", f"{folder}/{keys.FILE}"]
    code, out, err = run(["systemd-run", "--quiet", *timer, *ids, *back])
    if code:
        keys.as_the_account(keys.forget, wish)
        what = f"no timer could be started to take the keys of '{wish.name}' back ({' '.join((err or out).split())})"
        raise GpusteadError(what, "systemd-run to work", "Nothing was changed: see systemctl status, then run again.")
    try:
        return keys.settle_as_account(wish, check_only=False)
    except GpusteadError:
        abandon(run, wish)
        raise


def abandon(run: Run, wish: keys.Wish) -> None:
    """End a trial that nobody proved: what was there before it is there again."""
    if is_armed(run, wish):
        run(["systemctl", "stop", f"{unit(wish)}.timer"])
        keys.as_the_account(keys.take_back, wish)


def prove(run: Run, wish: keys.Wish) -> bool:
    """End a trial well: what is there stays. False where it was taken back already."""
    run(["systemctl", "stop", f"{unit(wish)}.timer"])
    # One that is at it must come to its end. It runs as the account, which may hold it up.
    service = f"{unit(wish)}.service"
    for _ in range(_ROUNDS):
        if run(["systemctl", "is-active", "--quiet", service])[0] != 0:
            break
        run(["sleep", "0.2"])
    else:
        run(["systemctl", "kill", "--signal=SIGKILL", service])
    stays: bool = keys.as_the_account(keys.forget, wish)
    return stays


def is_over(run: Run, wish: keys.Wish) -> bool:
    """Whether it was taken back."""
    return not is_armed(run, wish) and not keys.as_the_account(keys.is_kept, wish)
