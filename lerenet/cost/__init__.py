"""What a network costs: parameters, FLOPs, time and memory; and what the paper's Table 5 counts."""
