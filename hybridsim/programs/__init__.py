"""How one training step uses the machine."""
