"""A whole sale on a secured Kafka, everybody with the least rights, and what is refused."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from sales import START_MS, publish_sale, sku
from secured import (
    PLAIN_PASSWORD,
    SECRET,
    WEB_TOKEN,
    WRONG_PASSWORD,
    SecuredKafka,
    SecuredWorker,
    environment,
    until_may,
)
from worker_process import free_port, until

from streams import preflight, topics
from streams.acls import ROLES, Role, grants
from streams.errors import ConfigurationError
from streams.fetching import client_options
from streams.publish import Publisher
from streams.records import CompetitorPrice
from streams.settings import Settings
from streams.topic_admin import administering

pytestmark = pytest.mark.kafka

SEED, EVENTS = 5, 4_000
IMPLIED = {"Read": {"Describe"}, "Write": {"Describe"}, "DescribeConfigs": set[str]()}


@pytest.fixture(scope="module")
def granted(secured: SecuredKafka) -> SecuredKafka:
    """Every role has its rights, the worker's by the commands that we print; topics created."""
    admin = secured.as_role("admin")
    others: list[Role] = [role for role in ROLES if role != "worker"]
    for role in others:
        secured.grant_role(role, admin)
    secured.run_printed(admin, "worker")
    secured.allow("User:CN=worker", grants("worker", admin))
    created = json.loads(secured.flashcast(admin, "topics", "create", "--json").out)
    assert len(created["created"]) == len(topics.plans())
    for role in ROLES:
        needed = [one for one in grants(role, admin) if one.kind == "topic"]
        until_may(secured.as_role(role), needed)
    return secured


@pytest.fixture(scope="module")
def sale(granted: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> SecuredKafka:
    """A sale has been published, and a worker has decided about it, and left."""
    folder = tmp_path_factory.mktemp("sale")
    shop = granted.as_role("shop")
    asyncio.run(publish_sale(shop, SEED, EVENTS, end=EVENTS // 2))
    asyncio.run(publish_competitor_price(shop))
    settings = granted.as_role("worker", data_dir=folder / "data")
    with SecuredWorker(settings, folder / "log") as worker:
        worker.wait_until_ready()
        reconcile_is_exact(granted)
        metrics = worker.metrics()
        assert "flashcast_checkpoints_total" in metrics and SECRET not in metrics
        assert worker.terminate()[0] == 0
    assert "[debug" in worker.said()
    return granted


async def publish_competitor_price(settings: Settings) -> None:
    async with Publisher(settings) as publisher:
        price = CompetitorPrice(
            sku=sku(0), competitor="other", price_cents=9_000, as_of_ms=START_MS
        )
        await publisher.publish_reference([price])
        await publisher.flush()


def reconcile_is_exact(kafka: SecuredKafka) -> None:
    said = kafka.flashcast(kafka.as_role("reconcile"), "reconcile", "--wait-s", "90", "--json")
    report = json.loads(said.out)
    assert report["exact"] and report["repeats"] == 0, report
    assert report["late_events"]["found"] > 0 and report["dead_letters"]["found"] > 0


def test_what_we_print_is_what_is_granted(granted: SecuredKafka) -> None:
    settings = granted.as_role("worker")
    assert granted.held_by("User:flashcast-worker") == granted.held_by("User:CN=worker")
    assert granted.held_by("User:flashcast-worker") == {
        (one.kind, one.name, operation, one.prefixed)
        for one in grants("worker", settings)
        for operation in one.operations
    }


@pytest.mark.parametrize("role", ROLES)
def test_the_broker_lets_each_role_do_what_its_table_says_and_nothing_else(
    granted: SecuredKafka, role: Role
) -> None:
    settings = granted.as_role(role)
    expected = {
        one.name: {
            implied for name in one.operations for implied in {name} | IMPLIED.get(name, set())
        }
        for one in grants(role, settings)
        if one.kind == "topic"
    }
    with administering(settings) as admin:
        told = admin.describe_topics([plan.name for plan in topics.plans("shop.", "flashcast")])
    held = {
        topic["name"]: {name.title().replace("_", "") for name in topic["authorized_operations"]}
        for topic in told
        if topic["authorized_operations"]
    }
    assert held == expected


def test_the_commands_of_the_roles_work(sale: SecuredKafka) -> None:
    admin, dashboard = sale.as_role("admin"), sale.as_role("dashboard")
    assert json.loads(sale.flashcast(admin, "topics", "check", "--json").out)["ok"]
    assert "shop.clicks" in sale.flashcast(admin, "topics", "describe").out
    sale.assert_all_is_used("admin", admin)
    sale.assert_all_is_used("shop", admin)
    sale.assert_all_is_used("reconcile", admin)
    lines = sale.flashcast(dashboard, "tail", "--no-follow", "--json").out.splitlines()
    decided = {json.loads(line)["topic"] for line in lines}
    assert decided >= {topics.RESTOCK_EVENTS, topics.CAPACITY_FORECASTS}


def test_the_dashboard_shows_the_sale(sale: SecuredKafka, tmp_path: Path) -> None:
    port = free_port()
    settings = sale.as_role("dashboard", web_port=port)

    def state() -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/state", headers={"Authorization": f"Bearer {WEB_TOKEN}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                told = answer.read().decode()
        except OSError:
            return None
        assert SECRET not in told
        shown = json.loads(told)
        return shown if shown["overview"]["totals"]["restocks"] else None

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "dashboard"],
            env=environment(settings),
            stdout=log,
            stderr=log,
        )
    try:
        assert until(state, 30.0, "restocks on the page")["link"]["state"] == "live"
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
    assert SECRET not in (tmp_path / "log").read_text()
    sale.assert_all_is_used("dashboard", settings)


@pytest.mark.parametrize(
    ("role", "topic"),
    [("inventory", topics.RESTOCK_EVENTS), ("autoscaler", topics.CAPACITY_FORECASTS)],
)
async def test_a_subscriber_reads_its_topic_in_its_group_and_nothing_else(
    sale: SecuredKafka, role: Role, topic: str
) -> None:
    settings = sale.as_role(role)
    options = client_options(settings)

    async def read(name: str, group: str) -> Any:
        consumer = AIOKafkaConsumer(
            f"shop.{name}",
            group_id=group,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            **options,
        )
        try:
            await consumer.start()
            async with asyncio.timeout(20):
                return await consumer.getone()
        finally:
            await consumer.stop()

    assert (await read(topic, role)).value
    sale.assert_all_is_used(role, settings)
    with pytest.raises(TopicAuthorizationFailedError):
        await read(topics.PRICE_ADJUSTMENTS, role)
    with pytest.raises(GroupAuthorizationFailedError):
        await read(topic, "shop.flashcast")
    producer = AIOKafkaProducer(**options)
    await producer.start()
    try:
        for name in (topic, topics.ORDERS):
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait(f"shop.{name}", b"{}", partition=0)
    finally:
        await producer.stop()


def test_a_worker_with_a_certificate_and_an_encrypted_key_goes_on_with_the_sale(
    sale: SecuredKafka, tmp_path: Path
) -> None:
    asyncio.run(publish_sale(sale.as_role("shop"), SEED, EVENTS, begin=EVENTS // 2))
    settings = sale.certified(data_dir=tmp_path / "data")
    with SecuredWorker(settings, tmp_path / "log") as worker:
        worker.wait_until_ready()
        reconcile_is_exact(sale)
        assert worker.terminate()[0] == 0


# -- who is not let in


def refused(settings: Settings) -> str:
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(preflight.check(settings))
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def strange_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Signed by an authority that nobody knows: itself. With its key."""
    folder = tmp_path_factory.mktemp("strange")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=worker"]
    command += ["-keyout", "strange.key", "-out", "strange.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    yield folder / "strange.pem"


Make = Callable[[SecuredKafka, Path], Settings]
REFUSALS: dict[str, tuple[Make, str]] = {
    "password": (
        lambda k, _: k.as_role("worker", sasl_password=WRONG_PASSWORD),
        "KAFKA_SASL_PASSWORD is not its",
    ),
    "plain_password": (
        lambda k, _: k.settings("plain", sasl_mechanism="PLAIN", sasl_password=WRONG_PASSWORD),
        "KAFKA_SASL_PASSWORD is not its",
    ),
    "mechanism": (
        lambda k, _: k.as_role("worker", sasl_mechanism="SCRAM-SHA-256"),
        "does not take KAFKA_SASL_MECHANISM SCRAM-SHA-256",
    ),
    "no_tls": (
        lambda k, _: k.as_role("worker", security_protocol="SASL_PLAINTEXT", ssl_ca_file=None),
        "must be SASL_SSL",
    ),
    "authority": (
        lambda k, strange: k.as_role("worker", ssl_ca_file=strange),
        "KAFKA_SSL_CA_FILE",
    ),
    "authority_of_the_system": (
        lambda k, _: k.as_role("worker", ssl_ca_file=None),
        "KAFKA_SSL_CA_FILE of the system must hold the authority",
    ),
    "strange_certificate": (
        lambda k, strange: k.certified(
            ssl_certificate_file=strange, ssl_key_file=strange.with_suffix(".key")
        ),
        "refuses KAFKA_SSL_CERTIFICATE_FILE",
    ),
    "no_certificate": (
        lambda k, _: k.certified(ssl_certificate_file=None, ssl_key_file=None),
        "wants a certificate: set KAFKA_SSL_CERTIFICATE_FILE",
    ),
    "key_password": (
        lambda k, _: k.certified(ssl_key_password=WRONG_PASSWORD),
        "is KAFKA_SSL_KEY_PASSWORD right",
    ),
    "no_key_password": (
        lambda k, _: k.certified(ssl_key_password=None),
        "is KAFKA_SSL_KEY_PASSWORD right",
    ),
    "certificate_without_rights": (
        lambda k, _: k.certified(
            ssl_certificate_file=k.certificates / "outsider.pem",
            ssl_key_file=k.certificates / "outsider.key",
        ),
        "lacks Read on topic shop.clicks, ",
    ),
    "nobody": (
        lambda k, _: k.settings("outsider", sasl_password="outsider-secret"),
        "KAFKA_SASL_USERNAME outsider lacks Read on topic shop.clicks, ",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_who_is_not_let_in_is_told_which_setting_is_wrong(
    granted: SecuredKafka, strange_certificate: Path, case: str
) -> None:
    make, named = REFUSALS[case]
    assert named in refused(make(granted, strange_certificate))


COMMANDS = (
    ("password", ("worker",)),
    ("password", ("dashboard",)),
    ("password", ("tail",)),
    ("password", ("reconcile", "--json")),
    ("password", ("simulate", "--hours", "0.1", "--json")),
    ("password", ("topics", "check", "--json")),
    ("key_password", ("topics", "create", "--json")),
)


def test_no_command_tells_a_secret_when_it_is_refused(
    granted: SecuredKafka, strange_certificate: Path
) -> None:
    running = []
    for case, arguments in COMMANDS:
        make, named = REFUSALS[case]
        settings = make(granted, strange_certificate)
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", *arguments],
            env=environment(settings) | {"FLASHCAST_WEB_PORT": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append((process, named))
    for process, named in running:
        said, _ = process.communicate(timeout=90)
        assert process.returncode == 2, (process.args, said)
        assert named in said and SECRET not in said, (process.args, said)


@pytest.mark.parametrize("command", [("topics", "check"), ("worker",)])
def test_a_process_that_logs_everything_logs_no_secret(
    granted: SecuredKafka, command: tuple[str, ...]
) -> None:
    """With a handler for every library's debug lines, and PLAIN, which sends the password."""
    settings = granted.settings(
        "plain", sasl_mechanism="PLAIN", sasl_password=PLAIN_PASSWORD, web_port=0
    )
    program = (
        "import logging, sys; logging.basicConfig(level=logging.DEBUG); "
        f"sys.argv = ['flashcast', *{command}]; from streams.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )
    said = done.stdout + done.stderr
    assert "Authenticated as plain" in said  # they do log
    assert SECRET not in said, [line for line in said.splitlines() if SECRET in line][:3]
