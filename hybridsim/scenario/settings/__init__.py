"""Settings of algorithms and optimizers, one file each."""
