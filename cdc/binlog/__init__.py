"""The binary log as a stream of whole transactions. Rows stay undecoded."""
