"""Erasing: what is to go is found in every place that there is, taken out, and kept out."""
