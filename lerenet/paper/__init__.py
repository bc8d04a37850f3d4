"""What the paper prints: its scores and cost as data, and its way of counting operations."""
