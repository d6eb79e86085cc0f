"""The fixtures hold what they promise: real servers, reachable in every way that tests need, and nothing shared by accident."""

from __future__ import annotations

import pymysql
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.helpers.servers import PASSWORD


def test_a_source_writes_a_full_row_log_with_names_and_gtids(source):
    assert source.execute("SELECT @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, @@sync_binlog") == [
        ("ROW", "FULL", "FULL", 1)
    ]


def test_mariadb_11_4_is_one(mariadb114):
    [(version, *settings)] = mariadb114.execute(
        "SELECT VERSION(), @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, @@sync_binlog, @@tmpdir"
    )
    assert ["ROW", "FULL", "FULL", 1, f"{mariadb114.server.folder}/tmp"] == settings
    assert ("mariadb", "11.4.") == (mariadb114.flavour, version[:5])


def test_the_account_cdc_reads_the_source_but_may_not_write_it(source):
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (7)")
    with source.connect("cdc") as line, line.cursor() as cursor:
        cursor.execute("SELECT id FROM t")
        assert ((7,),) == cursor.fetchall()
        with pytest.raises(pymysql.err.OperationalError) as denied:
            cursor.execute("INSERT INTO t VALUES (8)")
    assert 1142 == denied.value.args[0]


def test_a_source_speaks_tls_with_the_certificate_of_our_authority(source, certificates):
    with (
        source.connect("cdc", ssl_ca=str(certificates.ca), ssl_verify_cert=True, ssl_verify_identity=True) as line,
        line.cursor() as cursor,
    ):
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert cursor.fetchall()[0][1] != ""


def test_the_account_cdc_owns_its_target_database(postgres):
    assert [(1,)] == postgres.execute("CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)", "SELECT id FROM t")


def test_the_target_speaks_tls_with_the_certificate_of_our_authority(postgres, certificates):
    with postgres.connect(sslmode="verify-full", sslrootcert=str(certificates.ca)) as line:
        assert (True,) == line.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_the_broker_takes_a_record_through_its_tls_and_sasl_door(kafka, certificates, mechanism):
    secure = kafka.secure(certificates, mechanism)
    admin = AdminClient(secure)
    for made in admin.create_topics([NewTopic(f"{kafka.prefix}.x", 1)]).values():
        made.result(30)
    producer = Producer(secure)
    producer.produce(f"{kafka.prefix}.x", b"value")
    assert 0 == producer.flush(30)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": kafka.prefix, "auto.offset.reset": "earliest"})
    consumer.subscribe([f"{kafka.prefix}.x"])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert b"value" == message.value()


def test_a_wrong_password_opens_no_door(source, kafka, certificates):
    with pytest.raises(pymysql.err.OperationalError):
        pymysql.connect(host=source.host, port=source.port, user="cdc", password=PASSWORD + "x")
    with pytest.raises(Exception, match=r"SASL|authentication|_TRANSPORT|brokers"):
        AdminClient({**kafka.secure(certificates), "sasl.password": "wrong"}).list_topics(timeout=3)


def test_a_private_server_keeps_its_data_through_a_crash(private):
    server = private("postgres", durable=True)
    before = server.port
    server.kill()
    assert server.process is None
    server.start()
    assert server.port == before
    assert server.ready()
