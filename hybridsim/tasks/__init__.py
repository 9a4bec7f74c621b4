"""What is trained: a workload file, checked, as functions of one flat parameter vector."""
