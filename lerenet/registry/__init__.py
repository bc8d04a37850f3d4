"""The model registry: candidates, versions, the gate, promotion and its ledger."""
