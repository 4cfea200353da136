"""What scripts are told of a command that could not do its work."""

import json
import sys

import pytest

from streams import cli
from streams.errors import BrokerError, ConfigurationError, FlashcastError


@pytest.mark.parametrize(
    ("error", "code"), [(BrokerError("no answer"), 3), (ConfigurationError("no topic"), 2)]
)
@pytest.mark.parametrize("as_json", [True, False])
def test_an_error_is_no_answer_and_is_said_in_json_where_that_is_asked_for(
    error: FlashcastError,
    code: int,
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["flashcast", "reconcile", *["--json"][: int(as_json)]])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == code
    assert str(error) in said.err
    assert bool(said.out) is as_json
    if as_json:
        assert json.loads(said.out) == {"error": str(error), "exit_code": code}
