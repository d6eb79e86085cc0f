"""What capture and sink say to one another."""
