"""Pictures: one style, panels of curves and tables, sequence logos."""
