import json
import random
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from streams import topics
from streams.cloud_events import CE_TYPES, cloud_event_headers, decision_id
from streams.errors import ConfigurationError, Reason
from streams.records import HORIZONS_MS
from streams.schema import (
    INPUTS,
    RECORDS,
    asyncapi,
    headers_schema,
    json_schema,
    run_schema,
)
from streams.schema_examples import EXAMPLES

NAMES = list(RECORDS)


def validator(topic: str) -> Draft202012Validator:
    schema = json_schema(topic)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def plain(topic: str) -> dict[str, Any]:
    return dict(json.loads(msgspec.json.encode(EXAMPLES[topic])))


def test_every_topic_of_the_contract_has_a_record_and_an_example() -> None:
    public = {plan.logical for plan in topics.plans()} - set(topics.INTERNAL_TOPICS)
    assert set(NAMES) == public == set(EXAMPLES)
    assert set(CE_TYPES) == set(NAMES) - set(INPUTS) - {topics.DEMAND_WINDOWS}


@pytest.mark.parametrize("topic", NAMES)
def test_the_example_of_a_record_is_valid_and_reads_back_the_same(topic: str) -> None:
    validator(topic).validate(plain(topic))
    encoded = msgspec.json.encode(EXAMPLES[topic])
    assert msgspec.json.decode(encoded, type=RECORDS[topic]) == EXAMPLES[topic]


@pytest.mark.parametrize("topic", NAMES)
def test_schema_and_type_refuse_the_same_spoilt_records(topic: str) -> None:
    """Each field in turn is removed or given a value of another kind or out of bounds."""
    seed = 4_711
    print(f"seed {seed}")
    draw = random.Random(seed)
    validate = validator(topic)
    refused = 0
    odd: list[Any] = [None, -1, 10**16, "x" * 200, "", [], {}, True, 1.5, "12"]
    for name in plain(topic):
        for value in [..., *draw.sample(odd, len(odd))]:
            record = plain(topic)
            if value is ...:
                del record[name]
            else:
                record[name] = value
            if topic in (topics.LATE_EVENTS, topics.DEAD_LETTERS) and name == "reason":
                continue  # the schema names the reasons, the struct takes any text
            try:
                msgspec.json.decode(msgspec.json.encode(record), type=RECORDS[topic])
                accepted = True
            except msgspec.DecodeError:
                accepted = False
            assert validate.is_valid(record) is accepted, (name, value)
            refused += not accepted
    assert refused > len(plain(topic))


@pytest.mark.parametrize("topic", NAMES)
def test_unknown_fields_are_allowed(topic: str) -> None:
    validator(topic).validate(plain(topic) | {"campaign": {"id": 5}})


def test_dead_letters_name_every_reason_and_late_events_their_one() -> None:
    reasons = json_schema(topics.DEAD_LETTERS)["properties"]["reason"]["enum"]
    assert reasons == [str(one) for one in Reason]
    assert json_schema(topics.LATE_EVENTS)["properties"]["reason"] == {"const": "late"}


def test_headers_as_written_are_headers_as_documented() -> None:
    for topic in CE_TYPES:
        event_id = decision_id("restock-events", "LAMP", 1_764_320_400_000)
        written = cloud_event_headers(topic, event_id, "flashcast/0", 1_764_320_400_123)
        headers = {name: value.decode() for name, value in written}
        schema = headers_schema(topic)
        assert schema is not None
        assert set(headers) == set(schema["required"])
        Draft202012Validator(schema, format_checker=FormatChecker()).validate(headers)
    assert headers_schema(topics.DEMAND_WINDOWS) is None


def test_the_asyncapi_document_says_what_the_types_and_topic_plans_say() -> None:
    document = asyncapi("shop-")
    plans = {plan.name: plan for plan in topics.plans("shop-")}
    for name, channel in document["channels"].items():
        kafka = channel["bindings"]["kafka"]
        plan = plans[channel["address"]]
        assert (
            ",".join(kafka["topicConfiguration"]["cleanup.policy"]) == plan.config["cleanup.policy"]
        )
        assert kafka.get("partitions") == plan.partitions
        message = document["components"]["messages"][name]
        assert message["payload"]["schema"] == json_schema(name)
        assert message.get("headers") == headers_schema(name)
        Draft202012Validator(message["payload"]["schema"]).validate(
            message["examples"][0]["payload"]
        )
    actions = {one["channel"]["$ref"]: one["action"] for one in document["operations"].values()}
    for name in NAMES:
        assert actions[f"#/channels/{name}"] == ("receive" if name in INPUTS else "send")


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [
                one for key, child in node.items() if key != "schema" for one in references(child)
            ]
        return (
            [one for child in node for one in references(child)] if isinstance(node, list) else []
        )

    found = references(document)
    assert len(found) >= 3 * len(NAMES)
    for reference in found:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_command_prints_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_schema() == 0
    assert list(json.loads(capsys.readouterr().out)) == NAMES
    assert run_schema(topic=topics.ORDERS) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Order"
    assert run_schema("asyncapi") == 0
    assert json.loads(capsys.readouterr().out)["asyncapi"] == "3.0.0"
    with pytest.raises(ConfigurationError, match="'parcels': there are clicks"):
        run_schema(topic="parcels")


def test_the_forecast_example_has_every_horizon() -> None:
    horizons = [one["horizon_ms"] for one in plain(topics.DEMAND_FORECASTS)["horizons"]]
    assert tuple(horizons[:4]) == HORIZONS_MS
    assert len(horizons) == 5
