"""Text as numbers: tokenizers."""
