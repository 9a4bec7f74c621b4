"""What happened: spans, their ledger and the critical path."""
