"""Judge records: prompts, the fence around corpus text, the reply grammar, and the judges."""
