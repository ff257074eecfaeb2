"""Parts of networks that have found a second home. Each file is one idea."""
