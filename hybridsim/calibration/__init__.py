"""Constants of a processor from measured times."""
