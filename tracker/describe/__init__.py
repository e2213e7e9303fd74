"""Objects in words: crops to a server that speaks OpenAI's protocol, beside tracking."""
