"""What `import vgtool` gives, and what `vgtool look` is made of."""
