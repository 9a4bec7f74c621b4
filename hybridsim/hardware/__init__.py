"""What a part costs and how it behaves in time."""
