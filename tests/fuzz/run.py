"""`make fuzz`: libFuzzer, guided by the coverage of our Python code, on every target in turn.

    make fuzz ARGS='--seconds 60'                     each target for a minute
    make fuzz ARGS='--seconds 600 --only state_row'

Compiled kernels are seen by what they answer, not by their branches. An input that is a find is
written to the folder that is named, the run ends with 1: put it into `corpus/TARGET/` once mended.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

COMPILED = [  # what numba compiles cannot be instrumented: its answers alone are seen
    "streams.codec.compiled", "streams.codec.event_kernel", "streams.codec.kernel",
    "streams.codec.sip_kernel", "streams.codec.skip", "streams.codec.text",
    "streams.codec.write_kernel", "streams.decisions.demand",
    "streams.decisions.lost_sales", "streams.decisions.order_size",
    "streams.decisions.price_programme", "streams.history_kernel",
    "streams.sku_hash", "streams.sku_kernel", "streams.windows_kernel", "models.ask_kernel",
    "models.negative_binomial", "models.observe_kernel", "models.quantile_table",
]  # fmt: skip
with atheris.instrument_imports(include=["streams", "models"], exclude=COMPILED):
    from tests.fuzz.targets import CORPUS, TARGETS

TIMEOUT_S = 30
RSS_MB_MAX = 4_096


def one(name: str, seconds: int, folder: str) -> None:
    """Fuzz one target; libFuzzer ends the process."""
    options = [
        f"-max_total_time={seconds}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={RSS_MB_MAX}",
        "-max_len=65536",
        "-seed=20261128", "-print_final_stats=1", f"-artifact_prefix={folder}/find-", folder,
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


def campaign(names: list[str], seconds: int) -> int:
    """All of them, each in a process of its own; a table."""
    print(f"{'target':20} {'executions':>10} {'coverage':>8}  finds")
    failed = False
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
        known = (CORPUS / name).glob("*") if (CORPUS / name).is_dir() else ()
        inputs = [*TARGETS[name].seeds, *(path.read_bytes() for path in known)]
        for number, data in enumerate(inputs):
            (folder / f"seed-{number}").write_bytes(data)
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.run",
            "--target",
            name,
            "--folder",
            str(folder),
        ]
        done = subprocess.run(
            [*command, "--seconds", str(seconds)], capture_output=True, text=True, errors="replace"
        )
        told = done.stdout + done.stderr
        executions = re.findall(r"number_of_executed_units: (\d+)", told)
        coverage = re.findall(r"cov: (\d+)", told)
        finds = sorted(map(str, folder.glob("find-*")))
        shown = f"{(executions or ['?'])[-1]:>10} {(coverage or ['?'])[-1]:>8}"
        print(f"{name:20} {shown}  {', '.join(finds) or 'none'}", flush=True)
        if done.returncode:
            failed = True
            print(told[-3_000:], flush=True)
    return int(failed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", choices=sorted(TARGETS), help="one target instead of all")
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.target:
        one(told.target, told.seconds, told.folder)
    sys.exit(campaign([told.only] if told.only else list(TARGETS), told.seconds))


if __name__ == "__main__":
    main()
