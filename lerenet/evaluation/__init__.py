"""The protocol: episodes scored, counted, resampled; `metrics` is the table of scores."""
