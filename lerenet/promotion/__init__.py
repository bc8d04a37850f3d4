"""Promotion: the gate's decision, the alias moved last, and a ledger of what happened."""
