"""A folder as the way in: what is dropped is uploaded, and archived once its result is durable."""
