"""The engine: question trees, banks of edits, training, generation; exact, and each piece of work done once."""
