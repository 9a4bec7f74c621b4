"""What an SPU does: circuits that relax, their precision, their dissipation."""
