"""Natural evolution strategies and OpenAI's: a search distribution that follows a gradient."""
