"""The compose file is valid, and its services say what an operator relies on."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def test_the_compose_file_follows_the_compose_schema() -> None:
    # the schema as check-jsonschema ships it; its own command line needs another click than Faust
    package = importlib.util.find_spec("check_jsonschema")
    assert package is not None and package.origin is not None
    schemas = Path(package.origin).parent / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(
        yaml.safe_load(COMPOSE.read_text())
    )


def test_workers_wait_for_the_topics_and_topics_for_a_healthy_broker(
    services: dict[str, Any],
) -> None:
    workers = [name for name in services if name.startswith("worker-")]
    assert len(workers) == 2
    for worker in workers:
        wanted = services[worker]["depends_on"]["topics"]["condition"]
        assert wanted == "service_completed_successfully"
    assert services["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"


def test_nothing_is_published_beyond_loopback(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published and all(port.startswith("127.0.0.1:") for port in published)


def test_every_setting_named_in_the_compose_file_exists(services: dict[str, Any]) -> None:
    from streams.settings import Settings

    names = {f"FLASHCAST_{name.upper()}" for name in Settings.model_fields}
    given = {
        name
        for service in services.values()
        for name in service.get("environment", {})
        if name.startswith("FLASHCAST_")
    }
    assert given <= names


def test_the_image_runs_as_its_own_user() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    final_stage = dockerfile.rsplit("\nFROM ", 1)[1]
    assert "\nUSER flashcast\n" in final_stage
