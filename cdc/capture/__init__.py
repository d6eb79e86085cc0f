"""Stage one: numbers rows, writes them to topics, closes cuts; copies tables between transactions."""
