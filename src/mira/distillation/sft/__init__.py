"""The student that is a fine-tuned causal LM."""
