"""A virtual environment for each list of pinned requirements, made when it is first needed."""

import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
HOME = Path(__file__).parents[2] / ".bench" / "venvs"
INSTALL_TIMEOUT_S = 1_800


class InstallError(Exception):
    """pip could not install what a program needs."""


def python_of(requirements: str | None) -> str:
    """The interpreter that has `programs/requirements/NAME.txt`; None: our own."""
    if requirements is None:
        return sys.executable
    wanted = PROGRAMS / "requirements" / f"{requirements}.txt"
    folder = HOME / requirements
    installed = folder / "installed.txt"
    python = folder / "bin" / "python"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted)])
        installed.write_text(wanted.read_text())
    return str(python)


def is_installed(requirements: str | None) -> bool:
    return requirements is None or (HOME / requirements / "installed.txt").exists()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    if done.returncode != 0:
        raise InstallError((done.stderr or done.stdout).strip()[-500:])
