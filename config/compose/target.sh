# Sourced by the entry point of the PostgreSQL image, once, on an empty data folder.
psql --username postgres --set ON_ERROR_STOP=1 --set password="$CDC_TARGET_PASSWORD" <<'SQL'
CREATE ROLE cdc LOGIN PASSWORD :'password';
CREATE DATABASE analytics OWNER cdc;
SQL
