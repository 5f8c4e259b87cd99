"""What a shell can ask for; nothing else in the package imports from here."""
