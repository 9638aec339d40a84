"""What ours is measured against. Each file imports its library at the top: import it only where that is."""
