"""The selection methods: MIRA and the baselines."""
