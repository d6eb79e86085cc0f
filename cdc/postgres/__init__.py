"""The only place that connects to PostgreSQL, and that turns its errors into decisions."""
