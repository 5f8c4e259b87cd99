"""Grades programs: extraction, test cases, and running them in the sandbox."""
