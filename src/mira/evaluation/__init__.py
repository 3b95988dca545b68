"""What a selection is worth: agreement with held-out labels, planted faults, small proxy LMs."""
