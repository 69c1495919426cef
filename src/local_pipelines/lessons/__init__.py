"""What a lesson asks for: parameters, explanations, files of prompts, measurements."""
