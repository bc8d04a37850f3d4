"""Speed on one machine, measured side by side; `python -m benchmarks --help`."""
