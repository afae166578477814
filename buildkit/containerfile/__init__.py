"""A stage as a plain Containerfile, which builds without this project. Pure: values to text."""
