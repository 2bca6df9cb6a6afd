"""What every stage shares and no method owns: flags, run folders, the training loop, metrics, cost, processes."""
