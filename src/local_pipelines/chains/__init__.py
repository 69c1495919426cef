"""What LangChain sees: models for its chains, its chat models, and `load_llm`."""
