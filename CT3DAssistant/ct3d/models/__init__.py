"""One model, one file. Models know nothing but tensors (and, for language models, text)."""
