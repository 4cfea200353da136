"""`flashcast schema`: the wire contract as JSON Schema (draft 2020-12) and as AsyncAPI 3.0.

Both are made from the types in `records.py` and the topics in `topics.py`: nothing is said twice.
"""

import inspect
import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Literal

import msgspec

from streams import topics
from streams.cloud_events import CE_TYPES
from streams.errors import ConfigurationError, Reason
from streams.records import (
    CapacityForecast,
    Cart,
    CatalogEntry,
    Click,
    CompetitorPrice,
    DemandForecast,
    DemandWindow,
    Order,
    PriceAdjustment,
    Refused,
    RestockEvent,
    StockLevel,
)
from streams.schema_examples import EXAMPLES

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_FORMAT: Final = "application/schema+json;version=draft-2020-12"
BINDING_VERSION: Final = "0.5.0"
RECORDS: Final[dict[str, type[msgspec.Struct]]] = {
    topics.CLICKS: Click,
    topics.CARTS: Cart,
    topics.ORDERS: Order,
    topics.CATALOG: CatalogEntry,
    topics.STOCK_LEVELS: StockLevel,
    topics.COMPETITOR_PRICES: CompetitorPrice,
    topics.DEMAND_WINDOWS: DemandWindow,
    topics.DEMAND_FORECASTS: DemandForecast,
    topics.RESTOCK_EVENTS: RestockEvent,
    topics.PRICE_ADJUSTMENTS: PriceAdjustment,
    topics.CAPACITY_FORECASTS: CapacityForecast,
    topics.LATE_EVENTS: Refused,
    topics.DEAD_LETTERS: Refused,
}
INPUTS: Final = (*topics.EVENT_TOPICS, *topics.REFERENCE_TOPICS)
Form = Literal["json-schema", "asyncapi"]
Json = dict[str, Any]


def run_schema(form: str = "json-schema", topic: str | None = None, prefix: str = "") -> int:
    """Print the schemas of all records by topic, the schema of one `topic`, or the AsyncAPI
    document. `prefix` is that of the topics' names on the broker.

    Raises ConfigurationError for an unknown form or topic.
    """
    if topic is not None and topic not in RECORDS:
        raise ConfigurationError(f"topic {topic!r}: there are {', '.join(RECORDS)}")
    if form == "asyncapi":
        shown = asyncapi(prefix)
    elif form == "json-schema":
        shown = (
            {name: json_schema(name) for name in RECORDS} if topic is None else json_schema(topic)
        )
    else:
        raise ConfigurationError(f"form {form!r}: there are json-schema and asyncapi")
    print(json.dumps(shown, indent=2, ensure_ascii=False))
    return 0


def json_schema(topic: str) -> Json:
    """The schema of a topic's values: complete in itself, fields beyond it allowed and ignored."""
    record = RECORDS[topic]
    (_,), definitions = msgspec.json.schema_components([record], ref_template="#/$defs/{name}")
    own = _tidied(definitions.pop(record.__name__))
    schema: Json = {"$schema": DIALECT, "$id": f"urn:flashcast:{topic}:v1", **own}
    if topic == topics.DEAD_LETTERS:
        schema["properties"]["reason"] = {"enum": [str(one) for one in Reason]}
    if topic == topics.LATE_EVENTS:
        schema["properties"]["reason"] = {"const": "late"}
    if definitions:
        schema["$defs"] = {name: _tidied(one) for name, one in definitions.items()}
    return schema


def _tidied(schema: Json) -> Json:
    described = {"description": inspect.cleandoc(schema["description"])}
    return schema | described if schema.get("description") else schema


def headers_schema(topic: str) -> Json | None:
    """The CloudEvents attributes in the headers of a topic's records; None: it has no headers."""
    if topic not in CE_TYPES:
        return None
    said = {
        "ce_id": {
            "type": "string",
            "format": "uuid",
            "description": "The same for a repeat: drop what you have seen.",
        },
        "ce_type": {"const": CE_TYPES[topic]},
        "ce_source": {"type": "string", "format": "uri-reference"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_specversion": {"const": "1.0"},
        "content-type": {"const": "application/json"},
    }
    return {"type": "object", "properties": said, "required": list(said)}


def asyncapi(prefix: str = "") -> Json:
    """The AsyncAPI 3.0 document, from flashcast's side: it receives inputs and sends outputs."""
    configs = {plan.logical: plan for plan in topics.plans()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "flashcast",
            "version": _version(),
            "description": "Clicks, carts and orders of a flash sale in; demand windows, "
            "forecasts, restocks, prices and capacity out. Keys are SKUs (of capacity-forecasts: "
            "services). Times are milliseconds since 1970 (UTC), money is in cents.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name, prefix, configs[name]) for name in RECORDS},
        "operations": {_operation_name(name): _operation(name) for name in RECORDS},
        "components": {"messages": {name: _message(name) for name in RECORDS}},
    }


def _channel(name: str, prefix: str, plan: topics.TopicPlan) -> Json:
    configuration: Json = {"cleanup.policy": plan.config["cleanup.policy"].split(",")}
    if "retention.ms" in plan.config:
        configuration["retention.ms"] = int(plan.config["retention.ms"])
    kafka: Json = {
        "topic": prefix + name,
        "topicConfiguration": configuration,
        "bindingVersion": BINDING_VERSION,
    }
    if plan.partitions is not None:
        kafka["partitions"] = plan.partitions
    return {
        "address": prefix + name,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": kafka},
    }


def _operation_name(name: str) -> str:
    verb = "receive" if name in INPUTS else "send"
    return verb + "".join(part.capitalize() for part in name.split("-"))


def _operation(name: str) -> Json:
    return {
        "action": "receive" if name in INPUTS else "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
    }


def _message(name: str) -> Json:
    schema = json_schema(name)
    key = "service" if name == topics.CAPACITY_FORECASTS else "SKU"
    message: Json = {
        "name": RECORDS[name].__name__,
        "summary": schema["description"].split("\n\n")[0].replace("\n", " "),
        "contentType": "application/json",
        "payload": {"schemaFormat": SCHEMA_FORMAT, "schema": schema},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": f"the {key}, UTF-8"},
                "bindingVersion": BINDING_VERSION,
            }
        },
        "examples": [{"payload": json.loads(msgspec.json.encode(EXAMPLES[name]))}],
    }
    headers = headers_schema(name)
    return message if headers is None else message | {"headers": headers}


def _version() -> str:
    try:
        return version("flashcast")
    except PackageNotFoundError:  # run from a checkout
        return "0.0.0"
