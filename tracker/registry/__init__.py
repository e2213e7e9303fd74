"""What outlives a restart: SQLite for rows, safetensors for objects' memories."""
