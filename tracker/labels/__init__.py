"""What an object is, found out beside tracking: CLIP compares a picture of it with the texts of its stream, and a
server that speaks OpenAI's protocol describes it in words."""
