"""Click and text queries; every one returns a Selection."""
