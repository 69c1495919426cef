"""Prompts in, answers out, by torch or OpenVINO GenAI; nothing here knows LangChain."""
