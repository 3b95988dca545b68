"""The student that is a fine-tuned encoder or small causal LM with one output per slot."""
