"""What several restores decode at the same time is decoded by decoders that were built before."""

import ast
from pathlib import Path

import pytest

from streams import watermark
from streams.state import local_copy

FOLDER = Path(local_copy.__file__).parent
MODULES = [*sorted(FOLDER.glob("*.py")), Path(watermark.__file__)]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_type_is_first_used_by_a_restore(module: Path) -> None:
    """msgspec crashes where threads are the first to use a type at the same time."""
    calls = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
    typed = [call for call in calls if any(word.arg == "type" for word in call.keywords)]
    assert not [ast.unparse(call) for call in typed]
    inside = [
        call
        for function in ast.walk(ast.parse(module.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("msgspec.json.Decoder")
    ]
    assert not inside
