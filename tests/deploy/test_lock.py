"""The lock that the image is installed from, against what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = pytest.mark.parametrize("variant", ["cpu", "cuda"])


def pins(variant: str) -> dict[str, str]:
    text = (ROOT / f"deploy/requirements-{variant}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+) \\$", text, re.MULTILINE))


def wanted() -> list[Requirement]:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [Requirement(one) for one in told["project"]["dependencies"]]


@VARIANTS
def test_the_lock_satisfies_every_dependency(variant: str) -> None:
    found = pins(variant)
    for one in wanted():
        if one.name == "torch" and variant == "cpu":
            assert "torch" not in found
            assert f"torch{one.specifier}" in (ROOT / "deploy/Dockerfile").read_text()
        else:
            assert one.specifier.contains(found[one.name]), f"{one}: make lock"


@VARIANTS
def test_every_pin_has_digests_and_no_line_says_where_it_came_from(variant: str) -> None:
    text = (ROOT / f"deploy/requirements-{variant}.lock").read_text()
    parts = [part for part in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE) if part]
    assert len(parts) == len(pins(variant))
    digest = r"    --hash=sha256:[0-9a-f]{64}"
    for part in parts:
        assert re.fullmatch(rf"\S+==\S+ \\\n({digest} \\\n)*{digest}\n", part), part


def test_both_variants_agree() -> None:
    assert pins("cpu").items() <= pins("cuda").items()


def test_the_image_installs_from_the_lock_alone() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    for line in re.findall(r"pip install.*", text):
        assert "--require-hashes" in line or "--no-deps" in line, line


def test_the_image_compiles_the_kernels_of_the_modules_that_it_runs() -> None:
    """Numba finds a kernel again by its module's path and time: `python -m` in the folder of the
    sources takes those, and a layer's times are whole seconds.
    """
    text = (ROOT / "deploy/Dockerfile").read_text()
    before, compiling = text.split("python -m streams.warm_up")[0], text.count("streams.warm_up")
    assert compiling == 1
    assert re.findall(r"^WORKDIR (.*)$", before, re.MULTILINE)[-1] == "/"
    assert before.rindex("touch -d") > before.rindex("pip install")
