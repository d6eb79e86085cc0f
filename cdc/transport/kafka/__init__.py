"""Topics of a Kafka cluster: writing, reading, groups, signals, and the topic of schemas."""
