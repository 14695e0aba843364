# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person reads while a playbook runs: its events in, lines out. Knows nothing of Ansible."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown
from ansible_collections.gpustead.cluster.plugins.plugin_utils.build_progress import duration
from ansible_collections.gpustead.cluster.plugins.plugin_utils.run_words import names, natural, sentence

LONG = 5  # seconds after which a task is one that the run waits for
QUIET = (10, 60)  # seconds without a line: the first time in a step, and at most
TITLE = 100  # most characters of a name
MOST_NAMES = 8  # in a line; where hosts failed all are named
MOST_TOLD = 20  # failures of a task that are told in full; the table has them all
# From what is fine to what is not; a host counts once in a step, as the last of these.
OUTCOMES = ("unchanged", "changed", "unreachable", "failed")
BAD = OUTCOMES[2:]
# Of a failure that Ansible counts and no event has told: its sentence, and whether it is of all hosts.
UNHEARD = ("see above", False)
# What is told of a failure that does not end the host's run.
HARMLESS = {"ignored": "ignored", "rescued": "another way is tried"}
# Behind the clock a role below its play and what is said of either; all else stands below these.
OF_PHASE, OF_STEP, BELOW = (" " * width for width in (2, 6, 8))


@dataclass(frozen=True)
class Line:
    """A line and what it speaks of: one of `OUTCOMES`, or nothing."""

    text: str
    of: str = ""


@dataclass
class Stage:
    """A play, or a role in one; `told` is whether it has a line already."""

    number: str
    title: str
    began: float
    indent: str = ""
    told: bool = False
    hosts: dict[str, str] = field(default_factory=dict)

    def line(self, clock: str) -> str:
        return f"{clock} {self.indent}{self.number} {self.title}"


@dataclass(frozen=True)
class Waiting:
    """What a host is at."""

    task: str
    since: float
    tries: str = ""


class RunProgress:
    """A run of playbooks.

    Args:
        now: seconds on a clock that never goes back, as everywhere below.
    """

    def __init__(self, now: float) -> None:
        self._began = self._said = now
        self._plays: Sequence[str] = ()
        self._phases: Mapping[str, str] = {}
        self._play: Stage | None = None
        self._phase: tuple[str, Stage] | None = None
        self._of_roles = False
        self._task = self._place = ""
        self._done: set[str] = set()
        self._pending: dict[str, Waiting] = {}
        self._gap = QUIET[0]
        self._told: dict[tuple[str, str], list[str]] = {}
        self._failures: dict[str, tuple[str, bool]] = {}

    # What happens

    def playbook(self, plays: Sequence[str]) -> None:
        """A playbook begins, with these plays, by their ids."""
        self._plays = plays

    def play(self, uid: str, title: str, phases: Mapping[str, str], now: float) -> list[Line]:
        """A play begins, or the next batch of its hosts; its roles with their titles, in their order."""
        lines = [*self._same(), *self._end(now)]
        place = self._plays.index(uid) + 1 if uid in self._plays else 0
        number = f"[{place}/{len(self._plays)}]" if place else "[-]"
        self._play = Stage(number, shown(title, TITLE), now)
        self._phases = phases if len(phases) > 1 else {}
        self._of_roles = False
        self._gap, self._pending = QUIET[0], {}
        return lines

    def task(self, title: str, place: str, role: str, now: float) -> list[Line]:
        """A task begins, which stands at this place; its role, if that is one of the play's."""
        lines = self._same()
        role = role if role in self._phases else ""
        if role != (self._phase[0] if self._phase else ""):
            lines += self._end_phase(now)
            if role:
                lines += self.header(now)
                self._of_roles = True
                number = f"[{list(self._phases).index(role) + 1}/{len(self._phases)}]"
                self._phase = role, Stage(number, shown(self._phases[role], TITLE), now, OF_PHASE)
                self._gap = QUIET[0]
        self._task, self._place, self._done = shown(title, TITLE), place, set()
        return lines

    def begun(self, host: str, task: str, now: float) -> None:
        """A host is at a task."""
        self._pending[host] = Waiting(shown(task, TITLE), now)

    def tried(self, host: str, attempt: int, of: int) -> None:
        """It will try once more."""
        if host in self._pending:
            self._pending[host] = replace(self._pending[host], tries=f" (try {attempt} of {of} failed)")

    def ended(self, host: str, outcome: str = "") -> None:
        """A host has done its task; what came of it, if anything was done."""
        self._pending.pop(host, None)
        self._done.add(host)
        for step in self._steps():
            if outcome and OUTCOMES.index(outcome) >= OUTCOMES.index(step.hosts.get(host, OUTCOMES[0])):
                step.hosts[host] = outcome

    def failed(self, host: str, how: str, said: Sequence[str], once: bool, now: float) -> list[Line]:
        """A host could not do its task.

        Args:
            host: its name.
            how: `failed`, `unreachable`, or one of `HARMLESS`.
            said: why, in lines, see `reasons`.
            once: whether the task was for all hosts.
        """
        why = sentence(said)
        self._failures[host] = why, once
        name = self._task if once else f"{shown(host)}: {self._task}"
        if how in HARMLESS:
            return self._once(how, host, [f"{name}: {why} ({HARMLESS[how]})"], now)
        # An address is in what ssh says, and another one for each host.
        key = why.rpartition(": ")[2] if how == "unreachable" else "\n".join(said)
        head = f"{how.upper()} {name} ({self._place})"
        return self._once(how, host, [head, *(f"  {line}" for line in said)], now, key)

    def told(self, host: str, said: Sequence[str], now: float) -> list[Line]:
        """A task has something to say of a host, or of all; the lines may be shown as they are."""
        first, *others = said or ["(nothing)"]
        lines = [f"{shown(host)}: {first}", *(f"  {line}" for line in others)] if host else said
        return self._once("", host, lines, now)

    def diff(self, host: str, lines: Sequence[str], now: float) -> list[Line]:
        """A task changes a file of a host like this; the lines may be shown as they are."""
        return self._once("", host, [f"{shown(host)}: {self._task}", *lines], now)

    # What is said

    def header(self, now: float) -> list[Line]:
        """The lines of the play and of its role, if they have none yet: something is about to be written below."""
        self._said = now
        untold = [step for step in self._steps() if not step.told]
        for step in untold:
            step.told = True
        return [Line(step.line(self._clock(now))) for step in untold]

    def waiting(self, now: float) -> list[Line]:
        """What the run waits for, if it has been quiet for long; ever less often."""
        quiet = now - self._said
        since = min((at.since for at in self._pending.values()), default=now)
        if not self._pending or quiet < self._gap or (now - since < LONG and quiet < QUIET[1]):
            return []
        self._gap = min(self._gap * 2, QUIET[1])
        what = f"waiting {self._longest(now)} for {self._at()}"
        *above, step = [line.text for line in self.header(now)] or [""]
        return [*map(Line, above), Line(f"{step}: {what}" if step else f"{self._clock(now)} {OF_STEP}{what}")]

    def live(self, now: float) -> str:
        """The step and what the hosts are at, for a terminal that can take the line back."""
        step = self._steps()[-1:]
        line = step[0].line(self._clock(now)) if step else self._clock(now)
        return f"{line} - {self._longest(now)}, {self._at()}" if self._pending else line

    def finish(self, counts: Mapping[str, Mapping[str, int]], check: bool, now: float) -> list[Line]:
        """The table of the hosts, and what to do next.

        Args:
            counts: for each host Ansible's own sums, which decide.
            check: whether nothing was to be changed.
        """
        words = {outcome: outcome for outcome in OUTCOMES}
        if check:
            words["changed"] = "would change"
        outcomes = {host: _outcome(of_host) for host, of_host in counts.items()}
        found = list(outcomes.values())
        total = ", ".join(f"{found.count(of)} {words[of]}" for of in OUTCOMES if of in found)
        verdict = "Failed" if set(found) & set(BAD) else "Done"
        lines = [*self._same(), *self._end(now)]
        lines.append(Line(f"{self._clock(now)} {verdict}: {total or 'no host had anything to do'}"))
        for (outcome, why), hosts in self._rows(outcomes).items():
            whose = names(hosts, 0 if outcome in BAD else MOST_NAMES)
            if outcome in BAD and self._for_all(hosts[0]):
                whose = "all hosts"
            reason = f": {why.replace(_HOST, shown(hosts[0]))}" if why else ""
            lines.append(Line(f"{BELOW}{words[outcome]:<13}{whose}{reason}", outcome))
        return lines + [Line(f"{BELOW}{line}") for line in self._next(outcomes, check)]

    # How

    def _clock(self, now: float) -> str:
        minutes, seconds = divmod(int(now - self._began), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"

    def _steps(self) -> list[Stage]:
        """The play, and the role in it."""
        return [step for step in (self._play, self._phase[1] if self._phase else None) if step]

    def _at(self) -> str:
        """What hosts are at, and which."""
        tasks: dict[str, list[str]] = {}
        for host, at in self._pending.items():
            tasks.setdefault(at.task + at.tries, []).append(host)
        done = f" ({len(self._done)} done)" if self._done else ""
        return "; ".join(f"{names(hosts, MOST_NAMES)}: {task}" for task, hosts in tasks.items()) + done

    def _longest(self, now: float) -> str:
        return duration(max((now - at.since for at in self._pending.values()), default=0.0))

    def _end(self, now: float) -> list[Line]:
        lines = self._end_phase(now)
        # What the roles did has its lines.
        if self._play and not self._of_roles:
            lines += self._result(self._play, now)
        self._play = None
        return lines

    def _end_phase(self, now: float) -> list[Line]:
        lines = self._result(self._phase[1], now) if self._phase else []
        self._phase = None
        return lines

    def _result(self, step: Stage, now: float) -> list[Line]:
        """How a step ended; nothing of one in which no host did anything."""
        outcomes = list(step.hosts.values())
        if not outcomes:
            return []
        counted = [f"{outcomes.count(of)} {of}" for of in OUTCOMES[1:] if of in outcomes]
        done = sum(of not in BAD for of in outcomes)
        hosts = f"{done} of {len(outcomes)} hosts" if done < len(outcomes) else _hosts(done)
        result = ", ".join([f"{hosts} done", *counted, duration(now - step.began)])
        self._said = now
        worst = OUTCOMES[max(map(OUTCOMES.index, outcomes))]
        if step.told:
            return [Line(f"{self._clock(now)} {OF_STEP}{result}", worst)]
        return [Line(f"{step.line(self._clock(now))}: {result}", worst)]

    def _once(self, of: str, host: str, said: Sequence[str], now: float, key: str = "") -> list[Line]:
        """What is said, below its step; of the same that others have to say no more than whose it is, and later."""
        same = (of, _masked(key or "\n".join(said), host))
        if same in self._told:
            self._told[same].append(host)
            return []
        if of in BAD and sum(one in BAD for one, _what in self._told) >= MOST_TOLD:
            self._told.setdefault((of, ""), []).append(host)
            return []
        self._told[same] = []
        return [*self.header(now), *(Line(f"{BELOW}{line}".rstrip(), of) for line in said)]

    def _same(self) -> list[Line]:
        lines = []
        for (of, what), hosts in self._told.items():
            if hosts:
                how = "the same" if what else "for other reasons, which the table at the end has"
                label, most = (f"{of.upper()} ", 0) if of in BAD else ("", MOST_NAMES)
                lines.append(Line(f"{BELOW}{label}{how}: {names(hosts, most)}", of))
        self._told = {}
        return lines

    def _for_all(self, host: str) -> bool:
        """Whether what this host failed in was done for all."""
        return self._failures.get(host, UNHEARD)[1]

    def _rows(self, outcomes: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
        """Outcome and reason to the hosts of which that is so, what is fine first."""
        rows: dict[tuple[str, str], list[str]] = {}
        for host, outcome in sorted(outcomes.items(), key=lambda item: OUTCOMES.index(item[1])):
            why = _masked(self._failures.get(host, UNHEARD)[0], host) if outcome in BAD else ""
            rows.setdefault((outcome, why), []).append(host)
        return rows

    def _next(self, outcomes: Mapping[str, str], check: bool) -> list[str]:
        bad = [host for host, outcome in outcomes.items() if outcome in BAD]
        if not bad:
            return ["Next: run it without --check."] if check and outcomes else []
        limited = len(bad) < len(outcomes) and len(bad) <= MOST_TOLD and not any(map(self._for_all, bad))
        limit = f" with --limit {','.join(sorted(bad, key=natural))}" if limited else ""
        away = [host for host in bad if outcomes[host] == "unreachable"]
        todo = ["do what is said above"] if len(away) < len(bad) else []
        todo += [f"see that SSH reaches {names(away, MOST_NAMES)} from here"] if away else []
        return [f"Next: {' and '.join(todo)}, then run it again{limit}. With -v Ansible says all that it has."]


# What stands for the name of the host that something is said of, as others may say the same of theirs.
_HOST = "\0"


@cache  # re's own holds 512 expressions: a run has thousands of hosts
def _name(host: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(host)}(?!\w)")


def _masked(text: str, host: str) -> str:
    return _name(host).sub(_HOST, text) if host else text


def _outcome(counts: Mapping[str, int]) -> str:
    if counts.get("failures"):
        return "failed"
    if counts.get("unreachable"):
        return "unreachable"
    return "changed" if counts.get("changed") else "unchanged"


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"
