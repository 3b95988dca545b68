"""mira.yaml: typed settings, loading, messages with file and line."""
