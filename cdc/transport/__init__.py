"""Topics: the contract, the one within a process, Kafka, and where schemas live. No record is understood here."""
