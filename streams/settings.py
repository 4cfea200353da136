"""Every setting, from the environment (`FLASHCAST_*`, `KAFKA_*`) or a TOML file, validated first.

The environment wins over the file named by `FLASHCAST_CONFIG`. Nobody but this module reads either:
all others are given a frozen `Settings` or a part of it.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from streams import topics
from streams.errors import ConfigurationError

Partitioner = Literal["murmur2", "crc32", "none"]
Guarantee = Literal["exactly_once", "at_least_once"]
Compression = Literal["none", "lz4", "zstd"]
Clock = Literal["wall", "event"]
Admission = Literal["all", "catalog"]
LOOPBACK = ("127.0.0.1", "::1", "localhost")
CLOSE = 0.6  # of names, as difflib measures it
NEARLY_THE_SAME = 0.92
NOT_SETTINGS = ("FLASHCAST_CONFIG", "FLASHCAST_TEST_KAFKA", "FLASHCAST_VARIANT")


class Service(BaseModel):
    """One service whose servers are scaled by the forecast."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    requests_per_click: float = Field(1.0, ge=0, allow_inf_nan=False)
    requests_per_cart: float = Field(1.0, ge=0, allow_inf_nan=False)
    requests_per_order: float = Field(1.0, ge=0, allow_inf_nan=False)
    rps_per_replica: float = Field(
        50.0, gt=0, allow_inf_nan=False
    )  # requests a second within the service's objective
    warm_up_s: int = Field(60, ge=1, le=3600)  # from asking for a replica until it serves
    replicas_min: int = Field(1, ge=1)
    replicas_max: int = Field(100, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.replicas_min > self.replicas_max:
            raise ValueError(
                f"replicas_min {self.replicas_min} is above replicas_max {self.replicas_max}"
            )
        return self


SHOP = Service(name="shop", requests_per_click=1.0, requests_per_cart=2.0, requests_per_order=5.0)


def _kafka(name: str) -> str:
    """A setting of every Kafka program keeps the name it has there: `KAFKA_...`."""
    return f"KAFKA_{name.upper()}"


class Settings(BaseSettings):
    """The whole configuration. Times in milliseconds unless a name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="FLASHCAST_",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        populate_by_name=True,
    )

    # broker
    bootstrap_servers: str = Field(
        "127.0.0.1:9092", validation_alias=_kafka("bootstrap_servers"), min_length=1
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", validation_alias=_kafka("security_protocol")
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", validation_alias=_kafka("sasl_mechanism")
    )
    sasl_username: str | None = Field(None, validation_alias=_kafka("sasl_username"))
    sasl_password: SecretStr | None = Field(None, validation_alias=_kafka("sasl_password"))
    ssl_ca_file: Path | None = Field(None, validation_alias=_kafka("ssl_ca_file"))
    ssl_certificate_file: Path | None = Field(None, validation_alias=_kafka("ssl_certificate_file"))
    ssl_key_file: Path | None = Field(None, validation_alias=_kafka("ssl_key_file"))
    ssl_key_password: SecretStr | None = Field(None, validation_alias=_kafka("ssl_key_password"))

    # identity and guarantee
    application: str = Field("flashcast", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    partitions: int = Field(4, ge=1, le=10_000)  # of topics keyed by SKU, when flashcast makes them
    partitioner: Partitioner = "murmur2"
    processing_guarantee: Guarantee = "exactly_once"
    group_instance_id: str | None = None  # static membership: a rolling restart moves no partition
    standby_replicas: int = Field(0, ge=0, le=4)  # other workers that keep each partition warm
    data_dir: Path = Path("data")
    clock: Clock = "wall"  # event: decisions of long ago are still emitted (demo and replay)

    # windows
    bucket_ms: int = Field(10_000, ge=100, le=3_600_000)
    allowed_lateness_ms: int = Field(5_000, ge=0, le=600_000)
    idle_timeout_ms: int = Field(5_000, ge=100)
    future_tolerance_ms: int = Field(5_000, ge=0)
    dedupe_horizon_records: int = Field(1_000_000, ge=1_000, le=100_000_000)
    # a larger value is cut to its head; at most so much that the rest still fits a batch beside it
    dead_letter_bytes_max: int = Field(65_536, ge=256, le=131_072)
    # shoppers in late events and dead letters become pseudonyms under it, else the word `redacted`
    pseudonym_key: SecretStr | None = Field(None, min_length=16)

    # which SKUs are admitted, and for how long
    admission: Admission = "all"  # catalog: only SKUs with a catalog entry count
    skus_max: int = Field(250_000, ge=100, le=10_000_000)  # rows of one partition
    sku_retention_ms: int = Field(86_400_000, ge=60_000)  # of event time without a sign of it

    # state
    # between those of closed buckets; twice that where it would come shortly before one closes
    checkpoint_interval_ms: int = Field(5_000, ge=10)
    session_timeout_ms: int = Field(10_000, ge=1_000)
    outputs_bytes_max: int = Field(16 * 2**20, ge=2**20)  # waiting for a checkpoint, per partition
    # of windows, forecasts and changelog; decisions are never compressed: any client can read them
    compression: Compression = "lz4"

    # forecasts and decisions
    forecasting: bool = True
    deciding: bool = True
    weights_file: Path | None = None  # none: the weights that ship with flashcast
    device: Literal["auto", "cpu", "cuda"] = "auto"
    forecast_interval_ms: int = Field(60_000, ge=100)
    review_period_ms: int = Field(300_000, ge=1_000)
    price_kill_switch: bool = False  # true: no price is ever changed
    price_changes_per_hour_max: int = Field(4, ge=0, le=8)  # a row remembers eight
    price_cooldown_ms: int = Field(300_000, ge=0)
    price_step_max: float = Field(0.15, gt=0, le=1)  # largest change at once, of the old price
    services: tuple[Service, ...] = (SHOP,)

    # web and logs
    web_host: str = "127.0.0.1"
    web_port: int = Field(6066, ge=0, le=65_535)
    # required to bind anything but loopback; long, since who has many addresses can guess on
    web_token: SecretStr | None = Field(None, min_length=16)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.security_protocol.startswith("SASL") and not (
            self.sasl_username and self.sasl_password
        ):
            raise ValueError("SASL needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD")
        for name in ("sasl_username", "sasl_password", "ssl_ca_file", "ssl_certificate_file"):
            layer, other = ("SASL", "SASL_PLAINTEXT") if name.startswith("sasl") else ("SSL", "SSL")
            if getattr(self, name) and layer not in self.security_protocol.split("_"):
                raise ValueError(
                    f"{_kafka(name)} is set, but KAFKA_SECURITY_PROTOCOL is "
                    f"{self.security_protocol}: it must be SASL_SSL or {other}"
                )
        if (self.ssl_certificate_file is None) != (self.ssl_key_file is None):
            raise ValueError("KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE go together")
        if self.forecast_interval_ms % self.bucket_ms:
            raise ValueError(
                f"FLASHCAST_FORECAST_INTERVAL_MS {self.forecast_interval_ms} must be a multiple "
                f"of FLASHCAST_BUCKET_MS {self.bucket_ms}"
            )
        if len({service.name for service in self.services}) != len(self.services):
            raise ValueError("FLASHCAST_SERVICES: two services share a name")
        if self.web_host not in LOOPBACK and self.web_token is None:
            raise ValueError(
                f"FLASHCAST_WEB_HOST {self.web_host} is not loopback: set FLASHCAST_WEB_TOKEN too"
            )
        return self

    def topic(self, name: str) -> str:
        """The topic's name on the broker."""
        return topics.broker_name(name, self.topic_prefix, self.application)

    def transactional_id(self, role: str) -> str:
        """One per partition (`p0`, `p1`, ...) or other single owner: a new owner fences the old."""
        return f"{self.topic_prefix}{self.application}-{role}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _FileSource(settings_cls)


class _FileSource(PydanticBaseSettingsSource):
    """The TOML file, beneath the environment."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # pydantic asks for it; __call__ answers for all fields at once

    def __call__(self) -> dict[str, Any]:
        named = os.environ.get("FLASHCAST_CONFIG")
        if not named:
            return {}
        try:
            told = tomllib.loads(Path(named).read_text())
        except (OSError, ValueError, RecursionError) as error:  # no TOML, or none that is sane
            raise ConfigurationError(f"FLASHCAST_CONFIG = {named!r}: {error}") from None
        return {key.removeprefix("kafka_"): value for key, value in told.items()}


def load(**overrides: Any) -> Settings:
    """Settings from `overrides`, the environment and the file, in that order of precedence.

    Raises ConfigurationError naming the variable, the value and what is allowed.
    """
    _refuse_unknown(os.environ)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError(_explained(error)) from None
    except SettingsError as error:  # a value of the environment that is no JSON
        raise ConfigurationError(
            f"{_not_json(error)}: it must be JSON; {error.__cause__}"
        ) from None


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """A misspelt setting must not be ignored in silence."""
    known = {variable_of(name) for name in Settings.model_fields} | set(NOT_SETTINGS)
    for name in environment.keys() - known:
        ours = name.startswith("FLASHCAST_")
        # other programs have settings of their own that begin with KAFKA_
        if ours or name.startswith("KAFKA_"):
            close = difflib.get_close_matches(name, known, 1, CLOSE if ours else NEARLY_THE_SAME)
            meant = f"; did you mean {close[0]}?" if close else ""
            if ours or close:
                raise ConfigurationError(f"{name} is no setting of flashcast{meant}")


def variable_of(field: str) -> str:
    """The environment's name of a setting."""
    alias = (
        Settings.model_fields[field].validation_alias if field in Settings.model_fields else None
    )
    prefix = "FLASHCAST_" if alias is None else "KAFKA_"
    return prefix + field.upper()


def _may_be_shown(field: str) -> bool:
    """No secret, and nothing under a name that is no setting, which may be a secret misspelt."""
    known = Settings.model_fields.get(field)
    return known is not None and "SecretStr" not in str(known.annotation)


def _not_json(error: SettingsError) -> str:
    names = [name for name in Settings.model_fields if f'"{name}"' in str(error)]
    return ", ".join(
        f"{variable_of(name)} = {os.environ.get(variable_of(name))!r}" for name in names
    )


def _explained(error: ValidationError) -> str:
    lines = []
    for one in error.errors(include_url=False, include_context=False):
        name = str(one["loc"][0]).lower().removeprefix("kafka_") if one["loc"] else ""
        inner = "".join(f"[{part}]" for part in one["loc"][1:])
        variable = variable_of(name)
        message = one["msg"].removeprefix("Value error, ")
        shown = f" = {one['input']!r}" if _may_be_shown(name) else ""
        lines.append(f"{variable}{inner}{shown}: {message}" if name else message)
    return "\n".join(lines)
