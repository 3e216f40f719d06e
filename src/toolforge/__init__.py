"""ToolForge trains a small language model to route an agent's queries to its tools."""
