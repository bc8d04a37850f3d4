"""What is measured of the marks of an inspection, and what rules make of it."""
