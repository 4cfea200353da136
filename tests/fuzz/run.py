"""`make fuzz`: libFuzzer, guided by the coverage of our Python code, on every target in turn; then
those that reach kernels once more, with the kernels as plain Python: a thousand times slower, but
their branches are seen, and no access outside of their memory stays unnoticed.

    make fuzz ARGS='--seconds 60'                     each of them for a minute
    make fuzz ARGS='--seconds 600 --only state_row'
    make fuzz ARGS='--kernels compiled'               without the second round; `plain`: it alone

An input that is a find is written to the folder that is named, the run ends with 1: put it into
`corpus/TARGET/` once mended.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS

SEED = 20261128
PROCESS_S = 120  # atheris keeps some 50 kB of each execution
ROUNDS = {
    "compiled": {"NUMBA_DISABLE_JIT": "0"},
    # a processor that nothing is known of: no checksums by its instruction, which is no Python
    "plain": {"NUMBA_DISABLE_JIT": "1", "NUMBA_CPU_NAME": "generic"},
}


def fuzzed(name: str, kernels: str, seconds: int) -> bool:
    """One target, in a process of its own; a line of the table. Whether nothing was found."""
    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    known = (CORPUS / name).glob("*") if (CORPUS / name).is_dir() else ()
    for number, data in enumerate([*target.seeds, *(path.read_bytes() for path in known)]):
        (folder / f"seed-{number}").write_bytes(data)
    executions, coverage, code, told = 0, "?", 0, ""
    for begin in range(0, seconds, PROCESS_S):  # what one has found, the next begins with
        lasting = str(min(PROCESS_S, seconds - begin))
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.one", name, str(folder), lasting, str(SEED + begin)],
            env={**os.environ, **ROUNDS[kernels]},
            capture_output=True,
            text=True,
            errors="replace",
        )
        code, told = done.returncode, done.stdout + done.stderr
        executions += sum(map(int, re.findall(r"number_of_executed_units: (\d+)", told)))
        coverage = (re.findall(r"cov: (\d+)", told) or [coverage])[-1]
        if code:
            break
    finds = sorted(map(str, folder.glob("find-*")))
    shown = f"{executions:>10} {coverage:>8}"
    print(f"{name:20} {kernels:8} {shown}  {', '.join(finds) or 'none'}", flush=True)
    if code:
        print(told[-3_000:], flush=True)
    return code == 0


def campaign(names: list[str], rounds: list[str], seconds: int) -> int:
    """All of them; 1 when anything was found."""
    print(f"{'target':20} {'kernels':8} {'executions':>10} {'coverage':>8}  finds", flush=True)
    wanted = [
        (name, kernels)
        for kernels in rounds
        for name in names
        if kernels == "compiled" or TARGETS[name].kernels
    ]
    well = [fuzzed(name, kernels, seconds) for name, kernels in wanted]  # all of them, in any case
    return int(not all(well))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target and round")
    parser.add_argument("--only", choices=sorted(TARGETS), help="one target instead of all")
    parser.add_argument("--kernels", choices=list(ROUNDS), help="one round instead of both")
    told = parser.parse_args()
    names = [told.only] if told.only else list(TARGETS)
    sys.exit(campaign(names, [told.kernels] if told.kernels else list(ROUNDS), told.seconds))


if __name__ == "__main__":
    main()
