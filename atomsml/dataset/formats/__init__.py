"""Files of labelled structures."""
