"""One file per workload: network, data and loss."""
