"""What makes values of different records comparable: the slots that sources share, their levels, and length."""
