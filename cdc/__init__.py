"""Continuous change data capture from MySQL and MariaDB through Kafka into PostgreSQL."""

__version__ = "0.1.0"
