"""What the product does on this machine: rows a second, CPU, memory and latency of its own pieces, and of two peers."""
