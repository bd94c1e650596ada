"""The search of sizes and dropout for a user's data."""
