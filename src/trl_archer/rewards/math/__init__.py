"""Grading math answers: extraction, parsing, exact and numeric equality."""
