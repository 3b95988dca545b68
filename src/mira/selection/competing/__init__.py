"""Who competes: records that gates let through, and one copy of each text."""
