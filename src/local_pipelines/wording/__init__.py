"""How we speak: messages in the learner's language, grammar, columns of a terminal."""
