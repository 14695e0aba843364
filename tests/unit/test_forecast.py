"""What make demo says of its time."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "forecast.sh"


def forecast(folder: Path, word: str) -> str:
    return subprocess.run([str(SCRIPT), word], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_it_guesses_first_and_knows_later(tmp_path: Path) -> None:
    assert re.match(r"make demo takes some \d+ minutes the first time", forecast(tmp_path, "begin"))
    (tmp_path / ".cache/demo-began").write_text("1000\n")
    assert re.search(r"All of it took \d+ min \d\d s", forecast(tmp_path, "end"))
    (tmp_path / ".cache/demo-took").write_text("843\n")
    assert forecast(tmp_path, "begin") == "make demo took 14 min 03 s here the last time\n"
