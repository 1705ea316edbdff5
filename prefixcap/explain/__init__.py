"""What a prefix says: its vectors as words, its slots, where they look, in numbers."""
