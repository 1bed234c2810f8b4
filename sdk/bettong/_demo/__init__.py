"""The demo: card transactions, made up but seeded, that a served pipeline checks for fraud."""
