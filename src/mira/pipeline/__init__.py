"""Run the stages: order, fingerprints, resume, plan, validation."""
