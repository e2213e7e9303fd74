"""Models by name: the zoo, downloads, and building one."""
