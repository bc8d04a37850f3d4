"""LERENet in its three readings: on relations (the default), and as the paper and its authors write it."""
