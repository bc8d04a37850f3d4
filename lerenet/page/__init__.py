"""The inspector's page: inspect, enrol, correct, and what became of it. It calls what the command line calls."""
