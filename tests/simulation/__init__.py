"""A pipeline's whole life in one thread: the product's own capture, copies, cuts and sink over simulated servers and a virtual clock.

One seeded scheduler decides every answer, delay, loss, crash and order, so a failure is replayed to the step by its seed:
`python -m tests.simulation --seed 7`. Months pass in seconds, because waiting costs nothing. What is simulated: the source's log
and its tables (`source`), librdkafka's producer and consumer over a broker with retention and compaction (`broker`), the target's
tables and state (`target`), and the people around (`hand`). What is the product's: everything between. The oracle (`oracle`) judges
each commit by what the source held at the position that is stored with it.
"""
