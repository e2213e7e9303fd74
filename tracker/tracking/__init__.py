"""Who is tracked where, and what comes next: plain Python without tensors."""
