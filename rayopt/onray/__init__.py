"""Everything that touches Ray; nothing else imports it."""
