# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Other firewalls beside ufw, as others have met them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import other_firewalls
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_setup import Observed
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.other_firewalls import (
    OtherFirewalls,
    dropping_chains,
    observe,
    refuse,
    warnings,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import NOT_FOUND
from ansible_collections.gpustead.cluster.plugins.modules import firewall_setup_info

NONE = "Id={}\nActiveState=inactive\nUnitFileState=\n"
UNITS = ("firewalld.service", "nftables.service", "netfilter-persistent.service")


def shown(**states: str) -> str:
    """As `systemctl show` answers: units that are not there have no state of their file."""
    known = {name.partition(".")[0].replace("-", "_"): name for name in UNITS}
    return "\n".join(
        f"Id={name}\nActiveState={states[key].split()[0]}\nUnitFileState={states[key].split()[1]}\n"
        if key in states
        else NONE.format(name)
        for key, name in known.items()
    )


# ufw's and Docker's in iptables-nft; /etc/nftables.conf of Debian's example for workstations (moby 26824,
# ipr-cnrs/nftables 70, dfw 135); firewalld's, fail2ban's, and Docker's own of its nftables backend.
CHAINS = """# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
	chain ufw-before-input {
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}
table ip6 filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
}
table inet filter {
	chain input {
		type filter hook input priority 0; policy drop;
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
	}
	chain output {
		type filter hook output priority filter; policy drop;
	}
}
table inet firewalld {
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
	}
}
table inet f2b-table {
	chain f2b-chain {
		type filter hook input priority filter - 1; policy accept;
	}
}
table ip docker-bridges {
	chain filter-FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}
"""


def test_chains_that_keep_out_what_ufw_lets_in() -> None:
    assert list(dropping_chains(CHAINS)) == ["inet filter input", "ip docker-bridges filter-FORWARD"]
    assert list(dropping_chains("")) == []
    # Where iptables is the legacy one, nobody of ours has these.
    assert list(dropping_chains(CHAINS, in_nftables=False))[:2] == ["ip filter INPUT", "ip filter FORWARD"]


FOUND: dict[str, tuple[str, str, str, OtherFirewalls]] = {
    "nothing": (shown(), "", "", OtherFirewalls()),
    "no systemd": ("", "", "", OtherFirewalls()),
    "firewalld": (shown(firewalld="active enabled"), "", "", OtherFirewalls(("firewalld.service",))),
    "firewalld that was stopped": (shown(firewalld="inactive disabled"), "", "", OtherFirewalls()),
    "firewalld at the next boot": (
        shown(firewalld="inactive enabled"),
        "",
        "",
        OtherFirewalls(("firewalld.service",)),
    ),
    "firewalld that may not start": (shown(firewalld="inactive masked"), "", "", OtherFirewalls()),
    "nftables": (
        shown(nftables="active enabled"),
        "#!/usr/sbin/nft -f\n\nflush ruleset\n",
        "",
        OtherFirewalls(("nftables.service",), flushes=True),
    ),
    "nftables with tables of its own": (
        shown(nftables="active enabled"),
        "# flush ruleset\nflush table inet filter\n",
        "",
        OtherFirewalls(("nftables.service",)),
    ),
    "saved rules": (
        shown(netfilter_persistent="active enabled"),
        "",
        "*filter\n",
        OtherFirewalls(("netfilter-persistent.service",), saved=True),
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_is_there(case: str, tmp_path: Path) -> None:
    units, config, saved, found = FOUND[case]
    (tmp_path / "etc/iptables").mkdir(parents=True)
    if config:
        (tmp_path / "etc/nftables.conf").write_text(config)
    if saved:
        (tmp_path / "etc/iptables/rules.v4").write_text(saved)

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return (NOT_FOUND, "", "") if argv[0] == "nft" else (0, units, "")

    assert observe(run, tmp_path) == found


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            FOUND["firewalld"][-1],
            r"firewalld is enabled: expected one firewall.*disable --now firewalld.*docs/ports\.md",
        ),
        (FOUND["nftables"][-1], "nftables.conf has 'flush ruleset': .*as at a boot.*disable nftables .without --now"),
        # Oracle's images of Ubuntu: CubeCoders/AMP 466, terraform-oci-free-tier 166, wireguard-oracle-cloud-install 1.
        (FOUND["saved rules"][-1], "netfilter-persistent is enabled, .*in the place of ufw's.*firewall_extra_rules"),
    ],
    ids=str,
)
def test_what_governs_the_host_beside_ufw_is_refused(found: OtherFirewalls, words: str) -> None:
    with pytest.raises(GpusteadError, match=words):
        refuse(found)


@pytest.mark.parametrize(
    "found",
    [
        OtherFirewalls(),
        OtherFirewalls(flushes=True, saved=True),  # nobody loads them
        FOUND["nftables with tables of its own"][-1],
        OtherFirewalls(("netfilter-persistent.service",)),
        OtherFirewalls(dropping=("inet filter input",)),
    ],
    ids=str,
)
def test_what_is_not(found: OtherFirewalls) -> None:
    refuse(found)


def test_the_module_refuses_and_warns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall_setup_info, "observe", lambda _run: Observed({}, {}, []))
    # Those in an answer are of all modules that this process has run.
    warned: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text: warned.append(text))

    def asked(found: OtherFirewalls) -> str:
        warned.clear()
        monkeypatch.setattr(other_firewalls, "observe", lambda _run: found)
        with patch_module_args({"networks": ["10.1.0.0/24"]}), pytest.raises(SystemExit):
            firewall_setup_info.main()
        answer = json.loads(capsys.readouterr().out)
        return f"{answer.get('msg', '')}{''.join(warned)}"

    assert "firewalld is enabled" in asked(FOUND["firewalld"][-1])
    assert asked(OtherFirewalls()) == ""
    assert "(inet filter input)" in asked(OtherFirewalls(dropping=("inet filter input",)))
    assert len(warnings(OtherFirewalls(dropping=("a", "b")))) == 2
