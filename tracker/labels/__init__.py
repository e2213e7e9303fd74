"""What an object may be: CLIP compares a picture of it with the texts of its stream, beside tracking."""
