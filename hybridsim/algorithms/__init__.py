"""How one training step uses the machine: one package for each algorithm, one loop for all."""
