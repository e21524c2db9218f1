"""Methods beside each other, over the seeds that were kept of each."""
