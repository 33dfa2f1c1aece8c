"""What several test modules share: strategies, laws, tolerances, files."""
