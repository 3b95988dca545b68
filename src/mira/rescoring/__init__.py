"""The cascade: a more expensive student re-scores records near the threshold."""
