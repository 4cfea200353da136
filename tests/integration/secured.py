"""A secured Kafka under a test's control: users, rights, certificates, and commands run as users.

No secret that a process of ours is given may be in anything that it says: every one that is run
here is looked through for all of them.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from brokers import LAUNCHER
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pydantic import SecretStr
from worker_process import ROOT, WorkerProcess, until

from streams.acls import ROLES, Grant, Role, grants
from streams.errors import FlashcastError
from streams.permissions import require
from streams.settings import Settings, load, variable_of
from streams.topic_admin import admin_options

PASSWORD: Final = "Zu7-scram-Pq4"  # of every user, with the name behind it
PLAIN_PASSWORD: Final = "Zu7-plain-Xw9"
WRONG_PASSWORD: Final = "Zu7-wrong-Kd2"
KEY_PASSWORD: Final = "Zu7-keyfile-Mb3"
PSEUDONYM_KEY: Final = "Zu7-pseudonyms-Tr5"
WEB_TOKEN: Final = "Zu7-webtoken-Hn8"
SECRET: Final = "Zu7-"  # so begins every one
KINDS: Final = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}
KIND_NAMES: Final = {"TOPIC": "topic", "GROUP": "group", "TRANSACTIONALID": "transactional-id"}
NAMES: Final = {one: one.name.title().replace("_", "") for one in ACLOperation}  # as kafka-acls
OPERATIONS: Final = {name: one for one, name in NAMES.items()}


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class SecuredKafka:
    """Nothing is allowed to anybody but `admin`, until a test grants it."""

    directory: Path
    bootstrap_servers: str
    mtls_bootstrap_servers: str

    def __post_init__(self) -> None:
        self.certificates = self.directory / "certificates"
        root = self.settings("admin", sasl_password="admin-secret")
        self._admin = KafkaAdminClient(**admin_options(root))
        users = [user_of(role) for role in ROLES] + ["restricted"]
        added = self._admin.alter_user_scram_credentials(
            [
                UserScramCredentialUpsertion(
                    user, ScramMechanism.SCRAM_SHA_512, (PASSWORD + user).encode(), 4_096
                )
                for user in users
            ]
        )
        assert not any(added.values()), added
        self._admin.alter_configs(
            [
                ConfigResource(
                    ConfigResourceType.BROKER_LOGGER, "1", {"kafka.authorizer.logger": "DEBUG"}
                )
            ],
            raise_on_unknown=False,
        )

    def close(self) -> None:
        self._admin.close()

    # -- who somebody is

    def settings(self, user: str, **changes: Any) -> Settings:
        """A user by name and password, with all secrets set."""
        values: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": "SASL_SSL",
            "ssl_ca_file": self.certificates / "ca.pem",
            "sasl_username": user,
            "sasl_password": PASSWORD + user,
            "ssl_key_password": KEY_PASSWORD,
            "pseudonym_key": PSEUDONYM_KEY,
            "web_token": WEB_TOKEN,
            "topic_prefix": "shop.",
            "partitions": 2,
            "log_level": "debug",
            "clock": "event",
            "idle_timeout_ms": 1_000,
            "checkpoint_interval_ms": 1_000,
        }
        return load(**(values | changes))

    def as_role(self, role: Role, **changes: Any) -> Settings:
        """The user that has the role's rights, once they are granted."""
        return self.settings(user_of(role), **changes)

    def certified(self, **changes: Any) -> Settings:
        """A client with a certificate, its key encrypted."""
        values: dict[str, Any] = {
            "bootstrap_servers": self.mtls_bootstrap_servers,
            "security_protocol": "SSL",
            "sasl_username": None,
            "sasl_password": None,
            "ssl_certificate_file": self.certificates / "worker.pem",
            "ssl_key_file": self.encrypted_key(),
        }
        return self.settings("nobody", **(values | changes))

    def encrypted_key(self) -> Path:
        """The worker's key under KEY_PASSWORD."""
        made = self.certificates / "worker.encrypted.key"
        if not made.exists():
            command = ["openssl", "pkcs8", "-topk8", "-in", "worker.key", "-out", made.name]
            command += ["-v2", "aes-256-cbc", "-passout", f"pass:{KEY_PASSWORD}"]
            subprocess.run(command, cwd=self.certificates, check=True, capture_output=True)
        return made

    # -- what somebody may

    def allow(self, principal: str, several: Sequence[Grant]) -> None:
        self._admin.create_acls(_acls(ACL, ResourcePattern, principal, several))

    def withdraw(self, principal: str, several: Sequence[Grant]) -> None:
        told = self._admin.delete_acls(_acls(ACLFilter, ResourcePatternFilter, principal, several))
        assert all(len(affected) == 1 for _, affected, _ in told), told

    def held_by(self, principal: str) -> set[tuple[str, str, str, bool]]:
        """(kind, name, operation, prefixed) of all that is granted to somebody."""
        told, _ = self._admin.describe_acls(
            ACLFilter(
                principal=principal,
                host="*",
                operation=ACLOperation.ANY,
                permission_type=ACLPermissionType.ANY,
                resource_pattern=ResourcePatternFilter(
                    ResourceType.ANY, None, ACLResourcePatternType.ANY
                ),
            )
        )
        kinds = {kind: name for name, kind in KINDS.items()}
        return {
            (
                kinds[one.resource_pattern.resource_type],
                one.resource_pattern.resource_name,
                NAMES[one.operation],
                one.resource_pattern.pattern_type is ACLResourcePatternType.PREFIXED,
            )
            for one in told
        }

    def used_by(self, principal: str) -> set[tuple[str, str, str]]:
        """(kind, name, operation) of every right that somebody has made use of, by the broker's own
        log. Describe, which others imply, counts when it was granted by itself.
        """
        log = (self.directory / "node-0" / "log").read_text(errors="replace")
        allowed = re.compile(
            rf"Principal = {re.escape(principal)} is Allowed operation = (\w+) from host = \S+ on "
            r"resource = (\w+):LITERAL:(\S+) for .*?StandardAcl\[.*? operation=(\w+),"
        )
        return {
            (KIND_NAMES[kind.upper()], name, NAMES[ACLOperation[used]])
            for used, kind, name, granted in allowed.findall(log)
            if used == granted
        }

    def assert_all_is_used(self, role: Role, settings: Settings) -> None:
        """The role has made use of every right in its table; others it does not have."""
        needed = {
            (one.kind, one.name, operation)
            for one in grants(role, settings)
            for operation in one.operations
        }
        used = self.used_by(f"User:{user_of(role)}")
        assert used == needed, (needed - used, used - needed)

    def grant_role(self, role: Role, settings: Settings) -> None:
        self.allow(f"User:{user_of(role)}", grants(role, settings))

    # -- commands

    def flashcast(self, settings: Settings, *arguments: str, code: int = 0) -> Said:
        """Run a command to its end, which must be `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli", *arguments],
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert SECRET not in said.out + said.err, said
        assert said.code == code, said
        return said

    def run_printed(self, settings: Settings, role: Role) -> None:
        """Do what `flashcast topics acls` says, word for word, with Kafka's own tool."""
        printed = self.flashcast(settings, "topics", "acls", role).out
        tool = f'kafka-acls() {{ "{LAUNCHER}" tool acls "$@"; }}\n'
        subprocess.run(
            ["bash", "-ec", tool + printed],
            cwd=self.directory,  # its admin.properties
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )


def user_of(role: Role) -> str:
    """As `flashcast topics acls` calls it unless told otherwise."""
    return f"flashcast-{role}"


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process is given them."""
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            told[variable_of(name)] = plain
    return told


def may(settings: Settings, needed: Sequence[Grant]) -> bool:
    """Whether the broker already says so: rights take a moment to come into force."""
    try:
        require(settings, needed)
    except FlashcastError:  # a new cluster has yet to appoint its coordinators
        return False
    return True


def until_may(settings: Settings, needed: Sequence[Grant]) -> None:
    until(lambda: may(settings, needed), 20.0, f"rights of {settings.sasl_username}")


def _acls(shape: Any, pattern: Any, principal: str, several: Sequence[Grant]) -> list[Any]:
    shapes = {False: ACLResourcePatternType.LITERAL, True: ACLResourcePatternType.PREFIXED}
    return [
        shape(
            principal=principal,
            host="*",
            operation=OPERATIONS[operation],
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=pattern(KINDS[one.kind], one.name, shapes[one.prefixed]),
        )
        for one in several
        for operation in one.operations
    ]


class SecuredWorker(WorkerProcess):
    """A worker as a user, looked through for secrets when it has ended."""

    def __init__(self, settings: Settings, log: Path) -> None:
        super().__init__(settings, log, **environment(settings))

    def __exit__(self, *how: Any) -> None:
        super().__exit__(*how)
        assert SECRET not in self.said()
