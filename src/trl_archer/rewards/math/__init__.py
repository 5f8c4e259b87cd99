"""Grades math answers: extraction, normal forms, exact and numeric equality."""
