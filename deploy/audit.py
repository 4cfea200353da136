"""Holds the image's pins against the known vulnerabilities: `make audit`.

Exit code 1 when a pin has one, 3 when some pins could not be looked up: then nothing is proven.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parent / "requirements-cuda.lock"  # all pins of both variants
FOUND, NOT_DONE = 1, 3


def main(pip_audit: str) -> int:
    command = [pip_audit, "--disable-pip", "--require-hashes", "-r", str(LOCK), "-f", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        pins = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"the audit was NOT done: {done.stderr.strip()[-300:]}")
        return NOT_DONE
    for pin in pins:
        for one in pin.get("vulns", ()):
            fixed = ", ".join(one["fix_versions"]) or "no release yet"
            print(f"{pin['name']} {pin['version']}: {one['id']}, mended in {fixed}")
    skipped = sum("skip_reason" in pin for pin in pins)
    if any(pin.get("vulns") for pin in pins):
        return FOUND
    if skipped or not pins:
        print(f"the audit was NOT done: {skipped} of {len(pins)} pins could not be looked up")
        return NOT_DONE
    print(f"no known vulnerability in {len(pins)} pins")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
