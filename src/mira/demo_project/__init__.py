"""The demo: the whole pipeline on a real corpus with a frontier LLM teacher's recorded judgments."""
