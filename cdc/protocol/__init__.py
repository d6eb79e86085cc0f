"""What capture and sink say to one another: cuts, bases, barriers, signals, states of tables. Pure;
modelled in tests/protocol_model."""
