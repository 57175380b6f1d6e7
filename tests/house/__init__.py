"""The house's own rules, each a test: what the pages about structure and style promise, enforced."""
