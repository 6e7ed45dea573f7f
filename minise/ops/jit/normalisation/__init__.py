"""What normalisations and SE blocks are made of."""
