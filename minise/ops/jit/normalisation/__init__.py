"""What normalisations are made of."""
