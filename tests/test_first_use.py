"""No type is decoded for the first time where several threads could be the first together."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((*ROOT.glob("streams/**/*.py"), *ROOT.glob("models/**/*.py")))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_types_are_known_to_the_decoder_before_any_thread_decodes(module: Path) -> None:
    """msgspec crashes where threads are the first to use a type at the same time: a decoder is
    built when its module is imported, and one of each type that `convert` is given.
    """
    tree = ast.parse(module.read_text())
    later = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    built: set[str] = set()
    converted: set[str] = set()
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func)
        if name.endswith("json.Decoder"):
            assert id(call) not in later, f"line {call.lineno} builds a decoder when it runs"
            built |= {ast.unparse(one) for one in call.args}
        elif name.endswith(("json.decode", "msgspec.convert")):
            typed = [word for word in call.keywords if word.arg == "type"]
            assert not typed, f"line {call.lineno} names a type when it runs"
            converted |= {ast.unparse(one) for one in call.args[1:] if isinstance(one, ast.Name)}
    assert converted <= built


def test_the_modules_are_all_there() -> None:
    """As they lie in the repository: the test above would pass without any."""
    names = {path.relative_to(ROOT).as_posix() for path in MODULES}
    assert {"streams/pipeline.py", "streams/state/marker.py", "models/forecaster.py"} <= names
