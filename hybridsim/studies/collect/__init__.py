"""Where points are evaluated: in this process, by workers of this machine, on a cluster."""
