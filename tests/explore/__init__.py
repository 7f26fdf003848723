"""What is shown of a night, and the page that shows it."""
