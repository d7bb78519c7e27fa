"""Mutated input for whatever reads what strangers send: `make fuzz`."""
