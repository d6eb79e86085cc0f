"""Apache Kafka, one node that is broker and controller (KRaft), from jars in the cache folder."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path

from cdc.errors import Refused
from cdc.stack import docker, install, probe
from cdc.stack.files import hidden
from cdc.stack.probe import HOST
from cdc.stack.server import Server

VERSION = "4.3.1"
HERE = Path(__file__).parent
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


class Kafka(Server):
    """A broker. With certificates it has a second door, `secure_port`:
    TLS and the account cdc by PLAIN or SCRAM-SHA-512."""

    name = "kafka"

    @property
    def bootstrap(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def secure_port(self) -> int:
        return self._port("secure_port")

    def ready(self) -> bool:
        return probe.kafka(self.port)

    def lacks(self) -> tuple[str, ...]:
        java = () if install.find("java") else ("default-jre-headless",)
        return java if _libraries().is_dir() else (*java, *install.lacks_maven())

    def install(self) -> None:
        if install.find("java") is None:
            with install.alone():
                if install.find("java") is None:
                    install.apt("Kafka", "default-jre-headless")
        install.maven("Kafka", HERE / "kafka-pom.xml", _libraries())

    def prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self._properties()
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        scram = (
            ["--add-scram", f"SCRAM-SHA-512=[name=cdc,password={self.settings.cdc_password}]"]
            if self.settings.tls
            else []
        )
        arguments = [
            "format",
            "--standalone",
            f"--cluster-id={identity}",
            f"--config={self.folder / 'server.properties'}",
            *scram,
        ]
        self.run(*_java("-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool", *arguments)

    def command(self) -> list[str | Path]:
        return [*_java("-Xms256m", "-Xmx512m", "-XX:+UseG1GC"), "kafka.Kafka", self.folder / "server.properties"]

    def image(self) -> docker.Image:
        lines = self.settings_lines()
        lines["listeners"] = lines["listeners"].replace(f"//{HOST}", "//0.0.0.0")
        lines["controller.quorum.voters"] = f"1@{lines.pop('controller.quorum.bootstrap.servers')}"
        lines["log.dirs"] = "/var/lib/kafka/data"
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        return docker.Image(
            name=f"apache/kafka:{VERSION}",
            port=self.port,
            data="/var/lib/kafka/data",
            files={hidden(self.folder / "docker", "server.properties", text): "/mnt/shared/config/server.properties"},
        )

    def settings_lines(self) -> dict[str, str]:
        """The broker's properties."""
        control = f"{HOST}:{self._port('controller_port')}"
        doors = {"PLAINTEXT": self.bootstrap, "CONTROLLER": control}
        if self.settings.tls:
            doors["SECURE"] = f"{HOST}:{self.secure_port}"
        listeners = [f"{door}://{place}" for door, place in doors.items()]
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": ",".join(listeners),
            "advertised.listeners": ",".join(line for line in listeners if not line.startswith("CONTROLLER")),
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.quorum.bootstrap.servers": control,
            "log.dirs": str(self.data / "log"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            **_single_node(),
            **self._secure(),
            **dict(line.split("=", 1) for line in self.settings.options),
        }

    def _properties(self) -> None:
        place = self.folder / "server.properties"
        place.touch(mode=0o600)  # it may hold a password
        place.write_text("".join(f"{name}={value}\n" for name, value in self.settings_lines().items()))

    def _secure(self) -> dict[str, str]:
        tls, password = self.settings.tls, self.settings.cdc_password
        if tls is None:
            return {}
        both = self.folder / "keystore.pem"
        both.touch(mode=0o600)
        both.write_bytes(tls.key.read_bytes() + tls.cert.read_bytes())
        door = "listener.name.secure"
        return {
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            f"{door}.plain.sasl.jaas.config": f'{PLAIN} required user_cdc="{password}";',
            f"{door}.scram-sha-512.sasl.jaas.config": f"{SCRAM} required;",
            f"{door}.ssl.keystore.type": "PEM",
            f"{door}.ssl.keystore.location": str(both),
            f"{door}.ssl.truststore.type": "PEM",
            f"{door}.ssl.truststore.location": str(tls.ca),
        }


def _single_node() -> dict[str, str]:
    """Kafka's own topics expect three brokers and many partitions unless told otherwise."""
    ones = (
        "offsets.topic.replication.factor",
        "offsets.topic.num.partitions",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "transaction.state.log.num.partitions",
        "share.coordinator.state.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
        "share.coordinator.state.topic.num.partitions",
    )
    return dict.fromkeys(ones, "1")


def _libraries() -> Path:
    return install.cache() / f"kafka-{VERSION}"


def _java(*options: str) -> list[str | Path]:
    java = install.find("java")
    if java is None:
        raise Refused(
            "stack_missing", "Kafka", "there is no java on this machine", "apt-get install default-jre-headless"
        )
    return [java, *options, f"-Dlog4j2.configurationFile={HERE / 'kafka-log4j2.xml'}", "-cp", f"{_libraries()}/*"]
