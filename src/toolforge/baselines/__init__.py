"""What the fine-tuned model has to beat, one way of routing a module."""
