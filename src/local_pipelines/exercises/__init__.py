"""Is my answer right, and if not, why: exercises that answer back."""
