"""The paper's peers, each from its mechanism: one file a network, what they share in `parts`."""
