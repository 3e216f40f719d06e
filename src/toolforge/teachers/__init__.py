"""Who labels queries, and the store that keeps every label ever paid for."""
