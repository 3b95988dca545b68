"""Several processes at one run: which worker this is, and leases."""
