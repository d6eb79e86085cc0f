# Sourced by the entry points of the MariaDB and MySQL images, once, on an empty data folder.
xa=""
[ -z "${MYSQL_VERSION:-}" ] || xa=", XA_RECOVER_ADMIN"  # MySQL shows prepared XA transactions to this privilege only
docker_process_sql <<SQL
SET sql_log_bin = 0;
CREATE DATABASE IF NOT EXISTS opendental;
CREATE USER IF NOT EXISTS 'cdc'@'%' IDENTIFIED BY '${CDC_SOURCE_PASSWORD}';
GRANT REPLICATION SLAVE, REPLICATION CLIENT${xa} ON *.* TO 'cdc'@'%';
GRANT SELECT, LOCK TABLES ON opendental.* TO 'cdc'@'%';
SQL
