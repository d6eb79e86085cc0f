"""What a pipeline is told to do: frozen values, checked once, with a default for everything that can have one.

Import these names from `cdc.config.load`, which also reads a file. The annotated reference of every key is
`config/pipeline.toml`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cdc.config.values import (
    NAME,
    Kafka,
    Pattern,
    Patterns,
    SourceUrl,
    SslMode,
    TargetUrl,
    check_brokers,
    check_column,
    check_column_pattern,
    check_listen,
    check_name,
    check_registry,
    check_schema,
    check_sentinel,
    check_zone,
    port_after,
)
from cdc.model.policies import DEFAULT, Policies, Policy


class Section(BaseModel):
    """One table of the file: no unknown key, no conversion of types, no change after the check."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, populate_by_name=True, hide_input_in_errors=True
    )


class PipelineConfig(Section):
    name: Annotated[str, AfterValidator(check_name)]
    start_timeout_seconds: float = Field(30.0, ge=0, le=86_400)


class SourceConfig(Section):
    url: SourceUrl
    tables: Annotated[Patterns, Field(min_length=1)]
    exclude: Patterns = ()
    server_id: int = Field(ge=1, le=4294967295)
    ssl_mode: SslMode = "preferred"
    ssl_ca: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""
    connect_timeout_seconds: float = Field(10.0, gt=0, le=3600)
    heartbeat_seconds: float = Field(0.5, ge=0.05, le=0.5)
    schema_changes: Literal["copy", "stop"] = "copy"

    @model_validator(mode="after")
    def _tls_is_whole(self) -> SourceConfig:
        if self.ssl_mode.startswith("verify_") and not self.ssl_ca:
            raise ValueError(
                "ssl_mode verify_ca and verify_identity need ssl_ca, the file of the authority's certificate"
            )
        if bool(self.ssl_cert) != bool(self.ssl_key):
            raise ValueError("ssl_cert and ssl_key must be given together")
        return self


class TargetConfig(Section):
    url: TargetUrl
    schema_: Annotated[str, AfterValidator(check_schema)] = Field("{db}", alias="schema")
    loaded_at: Annotated[str, AfterValidator(check_column)] = ""
    adopt: bool = False
    synchronous_commit: bool = True


class TransportConfig(Section):
    kind: Literal["direct", "kafka"] = "direct"
    bootstrap: Annotated[str, AfterValidator(check_brokers)] = "127.0.0.1:9092"
    prefix: Annotated[str, AfterValidator(check_name)]
    registry: Annotated[str, AfterValidator(check_registry)] = Field("", repr=False)
    partitions: int = Field(1, ge=1, le=10000)
    partitions_of: dict[Pattern, Annotated[int, Field(ge=1, le=10000)]] = Field(default_factory=dict)
    kafka: Kafka = Field(default_factory=dict, repr=False)


class SnapshotConfig(Section):
    parallel: int = Field(2, ge=1, le=64)
    max_rows_per_second: int = Field(0, ge=0, le=1_000_000_000)
    max_threads_running: int = Field(25, ge=0, le=1_000_000)
    max_lock_waits_per_second: int = Field(500, ge=0, le=1_000_000)
    max_replica_lag_seconds: float = Field(30.0, ge=0, le=86_400)
    through: Literal["target", "topics"] = "target"


class ApplyConfig(Section):
    max_delay_seconds: float = Field(0.2, ge=0, le=3600)
    quarantine_keys: int = Field(1000, ge=0, le=100_000)
    quarantine_share: float = Field(0.5, gt=0, le=1)
    shards: int = Field(0, ge=0, le=1000)


class MetricsConfig(Section):
    """Where each process serves its metrics: the halves of a pipeline share a file, and may share a machine."""

    listen: Annotated[str, AfterValidator(check_listen)] = "127.0.0.1:19187"
    apply_listen: Annotated[str, AfterValidator(check_listen)] = "127.0.0.1:19188"
    snapshot_listen: Annotated[str, AfterValidator(check_listen)] = "127.0.0.1:19189"

    @model_validator(mode="before")
    @classmethod
    def _beside_the_first(cls, tree: Any) -> Any:
        """Where only `listen` is said, the other two take the ports after it."""
        listen = tree.get("listen") if isinstance(tree, dict) else None
        if not isinstance(listen, str):
            return tree
        try:
            return {"apply_listen": port_after(listen, 1), "snapshot_listen": port_after(listen, 2), **tree}
        except ValueError:  # reported once, at the key that was written
            return tree


class PolicyKeys(Section):
    """What may be said of columns; what is not said is taken from the pipeline's own `policies`."""

    zero_date: Literal["null", "sentinel", "text", "error"] | None = None
    sentinel_date: Annotated[str, AfterValidator(check_sentinel)] | None = None
    nul_text: Literal["strip", "error", "replace"] | None = None
    invalid_text: Literal["error", "replace"] | None = None
    json_: Literal["json", "jsonb", "text"] | None = Field(None, alias="json")
    refused_json: Literal["error", "null", "string"] | None = None
    timestamp: Literal["timestamptz", "timestamp"] | None = None
    timestamp_zone: Annotated[str, AfterValidator(check_zone)] | None = None
    tinyint1: Literal["smallint", "boolean"] | None = None
    bigint_unsigned: Literal["numeric", "bigint"] | None = None
    over_wide: Literal["error", "null", "clamp"] | None = None

    def said(self) -> dict[str, str]:
        """The keys that are given."""
        return {
            key: value
            for key, value in self.model_dump(by_alias=True, exclude={"columns"}).items()
            if value is not None
        }


class PoliciesConfig(PolicyKeys):
    columns: dict[Annotated[str, AfterValidator(check_column_pattern)], PolicyKeys] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, tree: Any) -> Any:
        """What is not said is the default."""
        return {**asdict(DEFAULT), **tree} if isinstance(tree, dict) else tree

    @property
    def policies(self) -> Policies:
        """The same for those who ask per column."""
        return Policies(Policy(**self.said()), {pattern: keys.said() for pattern, keys in self.columns.items()})


class Config(Section):
    """Everything a process of the pipeline is told."""

    pipeline: PipelineConfig
    source: SourceConfig
    target: TargetConfig
    transport: TransportConfig
    snapshot: SnapshotConfig = SnapshotConfig()
    apply: ApplyConfig = ApplyConfig()
    metrics: MetricsConfig = MetricsConfig()
    policies: PoliciesConfig = Field(default_factory=PoliciesConfig)

    @model_validator(mode="after")
    def _shards_need_a_broker(self) -> Config:
        if self.apply.shards and self.transport.kind != "kafka":
            raise ValueError('apply.shards needs transport.kind = "kafka": shards are dealt out to a consumer group')
        return self

    @model_validator(mode="before")
    @classmethod
    def _prefix_is_the_name(cls, tree: Any) -> Any:
        """`transport.prefix` defaults to the pipeline's name."""
        if not isinstance(tree, dict) or isinstance(tree.get("transport", {}), TransportConfig):
            return tree
        pipeline, transport = tree.get("pipeline"), tree.get("transport", {})
        name = (
            pipeline.name
            if isinstance(pipeline, PipelineConfig)
            else pipeline.get("name")
            if isinstance(pipeline, dict)
            else None
        )
        if not isinstance(transport, dict) or transport.get("prefix"):
            return tree
        return {
            **tree,
            "transport": {
                **transport,
                "prefix": name if isinstance(name, str) and NAME.fullmatch(name) else "unnamed",
            },
        }
