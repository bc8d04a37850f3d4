"""Features of images: cached (`store`), or of a backbone in training (`live`)."""
