"""The journal of paid-for replies, and batch files."""
