"""A judge of truth that reads the answer together with the question and its references: MiniLM, fine-tuned whole."""
