"""Receipts: what vouches, what does not, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts import agent, receipts
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import accounts

SALT = b"s" * 32
INPUTS = {"variable docker_log_driver": "a1", "its file tasks/main.yml": "b2"}


def make(**changes: Any) -> receipts.Receipt:
    receipt = receipts.Receipt(
        role="docker",
        host="gpu01",
        machine="m1",
        inputs=receipts.salted(INPUTS, SALT),
        reads=[("file", {"name": "/etc/gpustead/image"})],
        outputs=[
            ("file", {"name": "/etc/docker/daemon.json"}),
            ("unit", {"name": "docker.service"}),
            ("file", {"name": "/etc/old", "absent": True}),
        ],
        seen={
            "file /etc/gpustead/image": {"sha256": "i"},
            "file /etc/docker/daemon.json": {"mode": "0644", "sha256": "d" * 64},
            "unit docker.service": {"enabled": "enabled", "active": "active"},
            "file /etc/old": None,
        },
    )
    return receipt._replace(**changes)


def judge(receipt: receipts.Receipt, inputs: dict[str, str] | None = None, **seen: Any) -> receipts.Judgement:
    found = {**receipt.seen, **{name.replace("__", " "): value for name, value in seen.items()}}
    return receipts.judge(receipt, "gpu01", "m1", receipts.salted(inputs or INPUTS, SALT), found)


def test_a_receipt_comes_back_as_it_was_written() -> None:
    receipt = make()
    again = receipts.parse(receipt.dump())
    assert again.seen == receipt.seen
    assert [tuple(spec) for spec in again.outputs] == receipt.outputs
    assert judge(again) == receipts.Judgement([], [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"version": 99}', "version 99"),
        ('{"version": 1}', "damaged"),
        (make().dump()[:200], "damaged"),
        (json.dumps({**json.loads(make().dump()), "seen": {}}), "damaged"),
        (json.dumps({**json.loads(make().dump()), "inputs": []}), "damaged"),
        (json.dumps({**json.loads(make().dump()), "outputs": [["file"]]}), "damaged"),
        (json.dumps({**json.loads(make().dump()), "outputs": 3}), "damaged"),
        (json.dumps({**json.loads(make().dump()), "more": 1}), "damaged"),
    ],
)
def test_what_is_no_receipt_is_said_to_be_none(text: str, words: str) -> None:
    with pytest.raises(GpusteadError, match=words):
        receipts.parse(text)


CASES: list[tuple[str, dict[str, Any], list[list[str]], list[str]]] = [
    ("mode", {"file /etc/docker/daemon.json": {"mode": "0600", "sha256": "d" * 64}},
     [["file /etc/docker/daemon.json", "mode was 0644, is 0600"]], ["file /etc/docker/daemon.json"]),
    ("content", {"file /etc/docker/daemon.json": {"mode": "0644", "sha256": "e" * 64}},
     [["file /etc/docker/daemon.json", f"sha256 was {'d' * 12}, is {'e' * 12}"]], ["file /etc/docker/daemon.json"]),
    ("gone", {"unit docker.service": None}, [["unit docker.service", "it is gone"]], ["unit docker.service"]),
    ("back", {"file /etc/old": {"mode": "0644"}},
     [["file /etc/old", "it is there, and should not be"]], ["file /etc/old"]),
    ("unreadable", {"unit docker.service": {"error": "no systemctl"}},
     [["unit docker.service", "it cannot be read: no systemctl"]], ["unit docker.service"]),
    ("read", {"file /etc/gpustead/image": {"sha256": "j"}},
     [["file /etc/gpustead/image (read by the role)", "sha256 was i, is j"]], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reasons", "drifted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_differs_is_named(changes: dict[str, Any], reasons: list[list[str]], drifted: list[str]) -> None:
    receipt = make()
    verdict = receipts.judge(receipt, "gpu01", "m1", receipt.inputs, {**receipt.seen, **changes})
    assert verdict == receipts.Judgement(reasons, drifted)


def test_an_output_that_was_not_looked_at_does_not_pass() -> None:
    receipt = make()
    verdict = receipts.judge(receipt, "gpu01", "m1", receipt.inputs, {})
    assert len(verdict.reasons) == len(receipt.specs)


def test_a_receipt_of_elsewhere_does_not_vouch() -> None:
    receipt = make()
    reasons = receipts.judge(receipt, "gpu02", "m2", receipt.inputs, receipt.seen).reasons
    assert [what for _, what in reasons] == ["it is of gpu01, expected gpu02", "it is of another machine (machine-id)"]


def test_changed_new_and_gone_inputs_are_named() -> None:
    verdict = judge(make(), inputs={"variable docker_log_driver": "zz", "variable mine": "c3"})
    assert verdict.reasons == [
        ["its file tasks/main.yml", "gone"],
        ["variable docker_log_driver", "changed"],
        ["variable mine", "new"],
    ]


def test_digests_in_a_receipt_are_of_this_host_alone() -> None:
    assert not set(receipts.salted(INPUTS, SALT).values()) & set(receipts.salted(INPUTS, b"t" * 32).values())


# Receipts that were written before what they hold was known to be secret.
def test_no_password_is_told() -> None:
    old, new = {"proxies.http-proxy": "http://u:hunter2@proxy"}, {"proxies.http-proxy": "sha256:" + "0" * 64}
    assert "hunter2" not in receipts.compare(old, new)
    assert "http://***@proxy" in receipts.compare(old, new)
    assert receipts.compare({"m": ["https://u:hunter2@m"]}, {"m": []}) == 'm without ["https://***@m"]'


def test_lists_are_compared_by_what_came_and_went() -> None:
    assert receipts.compare({"v4": ["a", "b"]}, {"v4": ["b", "c"]}) == 'v4 without ["a"] and with ["c"]'
    assert receipts.compare({"v4": ["a", "b"]}, {"v4": ["b", "a"]}) == "v4 is in another order"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, None),
        (
            {"unit docker.service": {"enabled": "disabled", "active": "active"}},
            "enabled should be enabled, is disabled",
        ),
        ({"unit docker.service": {"enabled": "enabled", "active": "failed"}}, "active should be active, is failed"),
        ({"unit docker.service": {"enabled": "enabled"}}, None),
        ({"unit docker.service": None}, "it is not there"),
        ({"file /etc/old": {"mode": "0644"}}, "it is there, and should not be"),
        ({"file /etc/docker/daemon.json": {"error": "I/O"}}, "it cannot be read: I/O"),
    ],
)
def test_nothing_is_vouched_for_that_is_not_as_it_should_be(changes: dict[str, Any], complaint: str | None) -> None:
    receipt = make()
    found = list(receipts.unmet(receipt.outputs, {**receipt.seen, **changes}))
    assert [problem.text.partition(": ")[2] for problem in found] == ([complaint] if complaint else [])


@pytest.mark.parametrize(
    ("kind", "value", "complaint"),
    [
        ("certificate", {"issuer": "a", "for_key": True, "renewed": True}, None),
        ("certificate", {"issuer": "a", "renewed": True}, None),
        ("certificate", {"issuer": "a", "for_key": True, "renewed": False}, "renewed should be true, is false"),
        ("certificate", {"issuer": "a", "for_key": False, "renewed": True}, "for_key should be true, is false"),
        ("certificate", {"readable": False}, "readable should be true, is false"),
        ("package", {"installed": True}, None),
        ("package", {"installed": False}, "installed should be true, is false"),
    ],
)
def test_what_serves_nobody_is_not_vouched_for(kind: str, value: dict[str, Any], complaint: str | None) -> None:
    found = list(receipts.unmet([(kind, {"name": "x"})], {f"{kind} x": value}))
    assert [problem.text for problem in found] == ([f"{kind} x: {complaint}"] if complaint else [])


def test_a_wanted_value_is_compared_with_what_is_there() -> None:
    user = ("user", {"name": "ada", "expect": {"uid": 1500}})
    assert list(receipts.unmet([user], {"user ada": {"uid": 1500}})) == []
    (problem,) = receipts.unmet([user], {"user ada": {"uid": 1600}})
    assert problem == ("user ada: uid should be 1500, is 1600", "")


class TestNotRestored:
    changed: ClassVar = {"file /etc/docker/daemon.json": {"mode": "0666", "sha256": "d" * 64}}

    def test_the_same_inputs_must_give_the_same_outputs(self) -> None:
        last, new = make(), make(seen={**make().seen, **self.changed})
        (problem,) = receipts.not_restored(last, new, {})
        assert problem.text.startswith("file /etc/docker/daemon.json: mode was 0644, is 0666")

    def test_other_inputs_may_give_others(self) -> None:
        new = make(seen={**make().seen, **self.changed}, inputs={})
        assert list(receipts.not_restored(make(), new, self.changed)) == []

    def test_other_code_may_give_others_but_not_leave_what_it_found(self) -> None:
        inputs = receipts.salted({**INPUTS, "its file tasks/main.yml": "zz"}, SALT)
        new = make(seen={**make().seen, **self.changed}, inputs=inputs)
        assert list(receipts.not_restored(make(), new, make().seen)) == []
        (problem,) = receipts.not_restored(make(), new, {**make().seen, **self.changed})
        assert problem.text.endswith("the role did not put it back")

    @pytest.mark.parametrize(
        ("value", "problems"),
        [
            ({"mode": "0644", "links": 1}, 0),
            ({"mode": "0666", "links": 1}, 1),
            ({"error": "I/O"}, 1),
            (None, 1),
        ],
    )
    def test_other_code_may_look_at_other_fields(self, value: Any, problems: int) -> None:
        seen = {**make().seen, "file /etc/docker/daemon.json": value}
        inputs = receipts.salted({**INPUTS, "the collection's plugins": "zz"}, SALT)
        assert len(list(receipts.not_restored(make(), make(seen=seen, inputs=inputs), seen))) == problems

    def test_what_the_role_reads_may_have_changed(self) -> None:
        new = make(seen={**make().seen, **self.changed, "file /etc/gpustead/image": {"sha256": "j"}})
        assert list(receipts.not_restored(make(), new, {})) == []

    def test_what_an_account_changes_of_what_is_read_explains_nothing_of_others(self) -> None:
        settings = ("settings", {"name": "/home/ada", "account": "ada"})
        copies = ("tree", {"name": "/copies/ada", "account": "ada"})
        last = make(reads=[settings], outputs=[*make().outputs, copies])
        before = {**make().seen, "settings /home/ada": {"sha256": "s"}, "tree /copies/ada": {"sha256": "t"}}
        now = {**before, "settings /home/ada": {"sha256": "u"}, "tree /copies/ada": {"sha256": "v"}}
        last, new = last._replace(seen=before), last._replace(seen=now)
        assert list(receipts.not_restored(last, new, {})) == []
        (problem,) = receipts.not_restored(last, new._replace(seen={**now, **self.changed}), {})
        assert problem.text.startswith("file /etc/docker/daemon.json: mode was 0644, is 0666")

    def test_what_is_made_anew_varies(self) -> None:
        outputs = [("file", {"name": "/etc/docker/daemon.json", "varies": True})]
        new = make(seen={**make().seen, **self.changed}, outputs=outputs)
        assert list(receipts.not_restored(make(), new, {})) == []


@pytest.mark.parametrize(
    ("spec", "value", "must_go"),
    [
        (("user", {"name": "carol"}), {"uid": 1502}, True),
        (("file", {"name": "/etc/x"}), {"type": "file"}, True),
        (("file", {"name": "/data"}), {"type": "directory"}, False),
        (("file", {"name": "/etc/x", "keep": True}), {"type": "file"}, False),
        (("package", {"name": "acl"}), {"installed": True}, False),
        (("file", {"name": "/etc/x"}), None, False),
        (("file", {"name": "/etc/x", "absent": True}), {"type": "file"}, False),
    ],
)
def test_what_is_not_declared_any_more_must_go(spec: Any, value: Any, must_go: bool) -> None:
    assert receipts.must_go(spec, value) == must_go
    assert receipts.undeclared([spec], []) == {receipts.identify(spec): spec}
    assert receipts.undeclared([spec], [spec]) == {}


@pytest.mark.parametrize(
    ("spec", "value", "coming"),
    [
        (("user", {"name": "carol"}), None, ("user", {"name": "carol"})),
        (("user", {"name": "carol"}), {"uid": 1502}, None),
        (("lines", {"name": "/a", "lines": ["x", "y "]}), {"present": {"x": True, "y": False}},
         ("lines", {"name": "/a", "lines": ["y "]})),
        (("lines", {"name": "/a", "lines": []}), {"sha256": "d"}, None),
        (("json_keys", {"name": "/a", "keys": ["x", ["y", "z"]]}), {"x": 1, "y.z": None},
         ("json_keys", {"name": "/a", "keys": [["y", "z"]]})),
        (("json_keys", {"name": "/a", "keys": ["x"]}), {"error": "no JSON"}, None),
    ],
)  # fmt: skip
def test_what_is_there_before_a_role_runs_is_not_its_doing(spec: Any, value: Any, coming: Any) -> None:
    assert list(receipts.to_come([spec], {receipts.identify(spec): value})) == ([coming] if coming else [])


class TestAgent:
    """The agent as it runs on a host, on a state directory of its own."""

    def ask(self, state: Path, operation: str, **request: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "state_dir": str(state),
            "role": "docker",
            "host": "gpu01",
            "nonce": "n1",
            "inputs": INPUTS,
            "outputs": [],
        }
        given.update(request)
        if operation in ("previous", "begin"):
            given = {**given, "roles": [given]}
        answer: dict[str, Any] = json.loads(agent.answer(json.dumps({"operation": operation, **given})))
        begun: dict[str, Any] = answer["roles"]["docker"] if operation in ("previous", "begin") else answer
        return begun

    def begin(self, state: Path, nonce: str, *outputs: Path) -> dict[str, Any]:
        """Three roles at once, of which docker and images leave a file."""
        roles = [
            {"role": role, "inputs": INPUTS, "outputs": [["file", {"name": str(path)}] for path in paths]}
            for role, paths in (("base", []), ("docker", outputs[:1]), ("images", outputs[1:]))
        ]
        request = {"operation": "begin", "state_dir": str(state), "nonce": nonce, "roles": roles}
        answer: dict[str, Any] = json.loads(agent.answer(json.dumps(request)))["roles"]
        return answer

    def write(self, state: Path, path: Path, **request: Any) -> dict[str, Any]:
        outputs = [["file", {"name": str(path)}]]
        return self.ask(state, "write", **{"files": {}, "reads": [], "outputs": outputs, "accept": False, **request})

    def check(self, state: Path, inputs: dict[str, str] | None = None) -> dict[str, Any]:
        answer = self.ask(state, "check", roles={"docker": inputs or INPUTS})
        verdict: dict[str, Any] = answer["roles"]["docker"]
        return verdict

    @pytest.fixture
    def output(self, tmp_path: Path) -> Path:
        path = tmp_path / "output"
        path.write_text("as the role wrote it")
        return path

    def test_a_role_that_ended_is_fresh(self, tmp_path: Path, output: Path) -> None:
        assert "has not run here" in self.check(tmp_path)["reasons"][0][1]
        assert self.ask(tmp_path, "begin") == {"previous": [], "seen": {}, "unfinished": False}
        assert self.write(tmp_path, output) == {"changed": True, "problems": [], "refused": []}
        assert self.check(tmp_path) == {"reasons": [], "drifted": []}

    def test_what_must_be_as_the_inventory_has_it_now(self, tmp_path: Path, output: Path) -> None:
        (tmp_path / "known").write_text("@cert-authority gpu01,gpu02 ssh-ed25519 A\n")

        def check(*hosts: str) -> list[list[str]]:
            subject = {"name": str(tmp_path / "known"), "hosts": hosts, "expect": {"others": []}}
            answer = self.ask(
                tmp_path, "check", roles={"docker": INPUTS}, current={"docker": [["known_hosts", subject]]}
            )
            reasons: list[list[str]] = answer["roles"]["docker"]["reasons"]
            return reasons

        assert "has not run here" in check("gpu01")[0][1]
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        assert check("gpu01", "gpu02", "gpu03") == []
        assert check("gpu01") == [[f"known_hosts {tmp_path}/known (of all hosts)", 'others with ["gpu02"]']]
        (tmp_path / "known").unlink()
        assert check("gpu01")[0][1] == "it is gone"

    def test_a_second_run_without_changes_changes_nothing(self, tmp_path: Path, output: Path) -> None:
        for changed in (True, False):
            self.ask(tmp_path, "begin")
            assert self.write(tmp_path, output) == {"changed": changed, "problems": [], "refused": []}

    def test_a_run_that_died_leaves_none(self, tmp_path: Path, output: Path) -> None:
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        self.ask(tmp_path, "begin", nonce="n2")
        assert "did not come to its end" in self.check(tmp_path)["reasons"][0][1]
        assert not (tmp_path / "receipts/docker.json").exists()

    def test_what_a_run_left_undone_is_why_it_is_stale_until_one_leaves_a_receipt(
        self, tmp_path: Path, output: Path
    ) -> None:
        assert agent.undone(str(tmp_path)) == []
        reason = ["zoe", "uid 1500 belongs to 'ada': expected nobody. Choose another."]
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        self.ask(tmp_path, "begin")
        self.ask(tmp_path, "end", refused=[reason])
        assert self.check(tmp_path)["reasons"] == [reason]
        assert self.ask(tmp_path, "check", roles={"docker": INPUTS})["refused"] == ["docker"]
        assert agent.undone(str(tmp_path)) == [("docker", *reason)]
        # What the receipt before knew is not lost: it is taken back where it is not declared any more.
        assert self.ask(tmp_path, "previous")["previous"] == [["file", {"name": str(output)}]]
        assert not self.ask(tmp_path, "previous")["unfinished"]
        self.ask(tmp_path, "begin")
        assert "did not come to its end" in self.check(tmp_path)["reasons"][0][1]
        self.write(tmp_path, output)
        assert self.check(tmp_path)["reasons"] == []
        assert agent.undone(str(tmp_path)) == []

    def test_what_an_account_makes_of_its_own_is_its_refusal_and_no_failure(self, tmp_path: Path, output: Path) -> None:
        mine = tmp_path / "mine"
        mine.write_text("as the role wrote it")
        outputs = [["file", {"name": str(output)}], ["file", {"name": str(mine), "account": "zoe"}]]
        self.ask(tmp_path, "begin")
        assert self.write(tmp_path, output, outputs=outputs)["refused"] == []
        mine.chmod(0o600)
        assert self.ask(tmp_path, "check", roles={"docker": INPUTS})["refused"] == ["docker"]
        self.ask(tmp_path, "begin")
        answer = self.write(tmp_path, output, outputs=outputs)
        assert answer["problems"] == []
        ((name, what),) = answer["refused"]
        assert name == "zoe" and f"file {mine}: mode was 0644, is 0600" in what and "ps -fu zoe" in what
        assert self.check(tmp_path)["reasons"] == [[name, what]]
        assert agent.undone(str(tmp_path)) == [("docker", name, what)]
        # Beside what is the host's it fails all the same, and says all.
        output.unlink()
        self.ask(tmp_path, "begin")
        answer = self.write(tmp_path, output, outputs=outputs)
        assert [line.partition(":")[0] for line in answer["problems"]][:1] == [f"file {output}"]
        assert f"file {mine}" in " ".join(answer["problems"]) and answer["refused"] == []
        assert "did not come to its end" in self.check(tmp_path)["reasons"][0][1]
        assert self.ask(tmp_path, "check", roles={"docker": INPUTS})["refused"] == []

    def test_only_what_is_accounts_own_is_their_doing(self, tmp_path: Path, output: Path) -> None:
        def refused(**changes: Any) -> list[str]:
            found: list[str] = self.ask(tmp_path, "check", **{"roles": {"docker": INPUTS}, **changes})["refused"]
            return found

        mine = tmp_path / "mine"
        mine.write_text("read by the role")
        reads = [["file", {"name": str(mine), "account": "zoe"}]]
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output, reads=reads)
        assert refused() == []
        mine.write_text("edited meanwhile")
        assert refused() == ["docker"]
        assert refused(roles={"docker": {**INPUTS, "variable more": "c"}}) == []
        output.write_text("edited by hand")
        assert refused() == []

    @pytest.mark.parametrize(("local", "problems"), [(True, 1), (False, 0)])
    def test_an_account_of_a_directory_stays_where_it_is_declared_no_more(
        self, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch, local: bool, problems: int
    ) -> None:
        """No role can remove it; a run would fail for it for ever."""
        if not local:
            monkeypatch.setattr(accounts, "passwd", lambda _host: {})
        self.ask(tmp_path, "begin")
        assert self.write(tmp_path, output, outputs=[["user", {"name": "root", "fields": ["uid"]}]])["problems"] == []
        self.ask(tmp_path, "begin", nonce="n2")
        found = self.write(tmp_path, output, nonce="n2")
        assert len(found["problems"]) == problems, found

    @pytest.mark.parametrize("operation", ["begin", "previous"])
    def test_a_role_is_told_that_its_last_run_died(self, tmp_path: Path, output: Path, operation: str) -> None:
        self.ask(tmp_path, "begin")
        assert self.ask(tmp_path, operation)["unfinished"]
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        assert not self.ask(tmp_path, operation)["unfinished"]

    def test_roles_that_begin_at_once_vouch_no_longer(self, tmp_path: Path, output: Path) -> None:
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        begun = self.begin(tmp_path, "n2")
        assert list(begun) == ["base", "docker", "images"]
        assert begun["docker"]["previous"] == [["file", {"name": str(output)}]]
        assert "a run ended before it came to this role" in self.check(tmp_path)["reasons"][0][1]
        # Each of them ends by itself.
        assert self.write(tmp_path, output, nonce="n2")["problems"] == []
        assert self.check(tmp_path)["reasons"] == []
        assert not (tmp_path / "receipts/images.json").exists()

    def test_a_role_that_a_dead_run_had_not_come_to_is_not_unfinished(self, tmp_path: Path, output: Path) -> None:
        """Else its handlers would restart what nobody has touched, and it would take back what others have made."""
        more = tmp_path / "more"
        self.begin(tmp_path, "n1", tmp_path / "first", more)
        begun = self.begin(tmp_path, "n2", tmp_path / "first", more)
        assert {role: one["unfinished"] for role, one in begun.items()} == {
            "base": True,
            "docker": False,
            "images": False,
        }
        assert begun["images"]["previous"] == []
        # It comes to docker, dies there, and the next one dies before it comes there again.
        self.write(tmp_path, output, role="base", nonce="n2")
        assert "did not come to its end" in self.check(tmp_path)["reasons"][0][1]
        self.begin(tmp_path, "n3", tmp_path / "first", more)
        assert "before it came to this role" in self.check(tmp_path)["reasons"][0][1]
        begun = self.begin(tmp_path, "n4", tmp_path / "first", more)
        assert {role: one["unfinished"] for role, one in begun.items()} == {
            "base": True,
            "docker": True,
            "images": False,
        }
        assert begun["docker"]["previous"] == [["file", {"name": str(tmp_path / "first")}]]
        assert begun["images"]["previous"] == []

    @pytest.mark.parametrize(("refused", "unfinished"), [(True, True), (False, False)])
    def test_after_a_role_that_left_something_undone_the_others_run(
        self, refused: bool, unfinished: bool, tmp_path: Path
    ) -> None:
        """After one that could leave no receipt they do not."""
        self.begin(tmp_path, "n1")
        if refused:
            self.ask(tmp_path, "end", role="base", refused=[["zoe", "x"]])
        else:
            assert self.write(tmp_path, tmp_path / "not there", role="base")["problems"]
        begun = self.begin(tmp_path, "n2")
        assert (begun["base"]["unfinished"], begun["docker"]["unfinished"]) == (False, unfinished)

    def test_what_was_left_undone_is_told_until_a_run_comes_to_that_role(self, tmp_path: Path, output: Path) -> None:
        """Else one that dies in an earlier role would have verify.yml say that no account has anything to mend."""
        reason = ["zoe", "uid 1500 belongs to 'ada': expected nobody. Choose another."]
        self.begin(tmp_path, "n1")
        self.write(tmp_path, output, role="base")
        self.ask(tmp_path, "end", refused=[reason])
        for nonce in ("n2", "n3"):
            self.begin(tmp_path, nonce)
            assert agent.undone(str(tmp_path)) == [("docker", *reason)]
            assert self.check(tmp_path)["reasons"] == [reason]
        self.write(tmp_path, output, role="base", nonce="n3")
        assert agent.undone(str(tmp_path)) == []
        assert "did not come to its end" in self.check(tmp_path)["reasons"][0][1]

    def test_only_the_run_that_began_may_write(self, tmp_path: Path, output: Path) -> None:
        self.ask(tmp_path, "begin")
        self.ask(tmp_path, "begin", nonce="of another run")
        assert "another run" in self.write(tmp_path, output)["problems"][0]
        assert not (tmp_path / "receipts/docker.json").exists()

    def test_drift_is_seen_and_what_is_not_restored_is_refused(self, tmp_path: Path, output: Path) -> None:
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        output.write_text("edited by hand")
        assert self.check(tmp_path)["drifted"] == [f"file {output}"]
        self.ask(tmp_path, "begin")
        answer = self.write(tmp_path, output)
        assert "sha256" in answer["problems"][0]
        assert answer["acceptable"]
        verdict = self.check(tmp_path)
        assert "did not come to its end" in verdict["reasons"][0][1]
        assert verdict["drifted"] == [f"file {output}"]
        # Still refused on the next try: the last good receipt is what counts.
        self.ask(tmp_path, "begin")
        assert self.write(tmp_path, output)["problems"]
        assert self.write(tmp_path, output, accept=True)["problems"] == []

    def test_what_is_no_longer_declared_must_be_gone(self, tmp_path: Path, output: Path) -> None:
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        begun = self.ask(tmp_path, "begin", inputs={**INPUTS, "variable more": "c"})
        assert begun["previous"] == [["file", {"name": str(output)}]]
        assert begun["seen"][f"file {output}"]["type"] == "file"
        answer = self.write(tmp_path, output, outputs=[], accept=True)
        assert "not declared any more" in answer["problems"][0]
        assert not answer["acceptable"]
        output.unlink()
        assert self.write(tmp_path, output, outputs=[])["problems"] == []

    def test_what_a_run_without_a_receipt_added_is_not_forgotten(self, tmp_path: Path, output: Path) -> None:
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        more = tmp_path / "more"
        both = [["file", {"name": str(path)}] for path in (output, more)]
        self.ask(tmp_path, "begin", nonce="partial")
        more.write_text("by a run of some tasks only")
        self.ask(tmp_path, "end", nonce="partial", outputs=both)
        assert "a part of it" in self.check(tmp_path)["reasons"][0][1]
        begun = self.ask(tmp_path, "begin")
        assert begun["previous"] == both
        assert not begun["unfinished"]
        assert "not declared any more" in self.write(tmp_path, output)["problems"][0]
        # Also after this try, which left no receipt either.
        assert self.ask(tmp_path, "begin")["previous"] == both
        more.unlink()
        assert self.write(tmp_path, output)["problems"] == []
        assert self.ask(tmp_path, "begin")["previous"] == both[:1]

    def test_what_a_run_added_before_it_died_is_not_forgotten(self, tmp_path: Path, output: Path) -> None:
        more = ["file", {"name": str(tmp_path / "more")}]
        there = ["file", {"name": str(output)}]
        self.ask(tmp_path, "begin", outputs=[more, there])
        begun = self.ask(tmp_path, "begin")
        # What was there before is somebody else's.
        assert begun["previous"] == [more]
        assert begun["unfinished"]
        assert self.ask(tmp_path, "previous")["previous"] == [more]

    def test_what_a_failed_end_declared_is_not_forgotten(self, tmp_path: Path, output: Path) -> None:
        user = ["user", {"name": "nobody", "expect": {"uid": -1}}]
        self.ask(tmp_path, "begin")
        assert self.write(tmp_path, output, outputs=[user])["problems"]
        begun = self.ask(tmp_path, "begin")
        assert begun["previous"] == [user]
        assert not begun["unfinished"]

    def test_an_end_of_another_run_says_nothing(self, tmp_path: Path) -> None:
        self.ask(tmp_path, "begin")
        self.ask(tmp_path, "end", nonce="another", outputs=[["user", {"name": "mallory"}]])
        assert self.ask(tmp_path, "begin")["previous"] == []

    @pytest.mark.parametrize("damage", ["", "{", '{"version": 2}', None])
    def test_a_damaged_receipt_is_stale_and_no_error(self, tmp_path: Path, output: Path, damage: str | None) -> None:
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        path = tmp_path / "receipts/docker.json"
        if damage is None:
            path.unlink()
            path.mkdir()
        else:
            path.write_text(damage)
        assert self.check(tmp_path)["reasons"][0][0] == "receipt"
        self.ask(tmp_path, "begin")
        assert self.write(tmp_path, output)["problems"] == []
        assert self.check(tmp_path)["reasons"] == []

    def test_a_file_that_the_role_made_counts_from_the_end_of_its_run(self, tmp_path: Path, output: Path) -> None:
        begun, made = {"the contents of /a": receipts.ABSENT, "the contents of /b": "1"}, {"the contents of /a": "2"}
        self.ask(tmp_path, "begin", inputs=begun)
        assert self.write(tmp_path, output, files={**made, "the contents of /b": "edited"})["problems"] == []
        assert self.check(tmp_path, {**begun, **made})["reasons"] == []
        assert self.check(tmp_path, begun)["reasons"] == [["the contents of /a", "changed"]]

    def test_receipts_are_for_root_alone(self, tmp_path: Path, output: Path) -> None:
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "receipts").iterdir()}
        assert set(modes.values()) == {0o600}
        assert (tmp_path / "receipts").stat().st_mode & 0o777 == 0o700

    def test_receipts_of_other_roles_are_named(self, tmp_path: Path, output: Path) -> None:
        self.ask(tmp_path, "begin")
        self.write(tmp_path, output)
        assert self.ask(tmp_path, "check", roles={})["left"] == ["docker"]
