"""One opened scene and what is known of it."""
