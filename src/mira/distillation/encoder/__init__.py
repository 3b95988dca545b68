"""The encoder student: frozen features and a ridge."""
