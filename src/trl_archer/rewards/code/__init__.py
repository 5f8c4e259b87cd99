"""Grading programs: extraction, test cases, and runs in the sandbox."""
