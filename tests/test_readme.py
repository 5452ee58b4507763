"""The README does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_first_block_is_the_whole_loop_in_under_twenty_lines() -> None:
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) < 20
    assert "evonas.search(" in BLOCKS[0]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_blocks_run_as_written(number: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[number]], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def test_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture


def test_every_command_named_exists() -> None:
    from evonas.cli import study  # adds its commands
    from evonas.cli.commands import app

    assert study.compare
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    named = set(re.findall(r"evonas (search|resume|show|plot|problems|space|compare|table|profile)\b", README))
    assert named <= known


def test_run_scripts_named_in_the_readme_exist() -> None:
    for script in re.findall(r"runs/\w+\.py", README):
        assert (ROOT / script).is_file(), script


@pytest.mark.slow
def test_the_wheel_holds_every_room(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    import zipfile

    (wheel,) = tmp_path.glob("evonas-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for expected in ("evonas/problems/digits.py", "evonas/operators/repair.py", "evonas/costs/devices/pynq-z1.toml"):
        assert expected in names
    assert {name.split("/")[0] for name in names if not name.startswith("evonas-")} == {"evonas"}
